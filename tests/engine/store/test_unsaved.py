"""Red here means a disk without room costs what was read, or is blamed for another's error."""

import errno
import shutil
from pathlib import Path

import pytest
from builds import IDS, assert_same, build, cold, store

from engine import durable
from engine.errors import PlacementError, StoreError
from engine.store.store import verify


class FullDisk:
    """Has room for `left` more files."""

    def __init__(self, monkeypatch, left):
        self.left, self._write = left, durable.write
        monkeypatch.setattr(durable, "write", self.write)

    def write(self, path, fill):
        if self.left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.left -= 1
        self._write(path, fill)


@pytest.mark.parametrize("left", range(9))
def test_a_disk_that_fills_up_costs_nothing_that_was_read(models, tmp_path, monkeypatch, left):
    model, seen, notes = models["mm1"], [], []
    with monkeypatch.context() as patch:
        FullDisk(patch, left)
        built = build(
            tmp_path / "c",
            model,
            on_progress=lambda done, total: seen.append(done),
            on_unsaved=notes.append,
        )
    assert_same(built.context, cold(model))
    assert seen == [*range(4, len(IDS), 4), len(IDS)]
    assert not built.is_saved
    assert len(notes) == 1 and "the disk is full" in notes[0]
    again = build(tmp_path / "c", model)
    assert again.reused_tokens > 0 or left < 6  # tokens, two of KV, a state, a manifest after each
    assert_same(again.context, cold(model))
    verify(tmp_path / "c")


def test_a_full_disk_at_the_start_still_lends_what_others_have(models, tmp_path, monkeypatch):
    model, notes = models["mm1"], []
    build(tmp_path / "old", model, IDS[:70])
    usage = type("Usage", (), {"free": 0})
    with monkeypatch.context() as patch:
        patch.setattr("engine.store.store.shutil.disk_usage", lambda _path: usage)
        built = build(tmp_path / "new", model, others=[tmp_path / "old"], on_unsaved=notes.append)
    assert built.reused_tokens == 64
    assert "GiB are free there" in notes[0]
    assert_same(built.context, cold(model))


def test_a_folder_that_cannot_be_made_is_no_reason_not_to_read(models, tmp_path):
    model, notes = models["mm1"], []
    (tmp_path / "file").write_text("not a folder")
    built = build(tmp_path / "file" / "c", model, on_unsaved=notes.append)
    assert len(notes) == 1 and not built.is_saved
    assert_same(built.context, cold(model))
    with pytest.raises(StoreError, match="Not a directory"):
        build(tmp_path / "file" / "c", model)


def test_who_is_told_may_refuse_to_go_on(models, tmp_path, monkeypatch):
    def refuse(_why):
        raise PlacementError("needs more memory than there is")

    FullDisk(monkeypatch, 3)
    with pytest.raises(PlacementError, match="more memory"):
        build(tmp_path / "c", models["mm1"], on_unsaved=refuse)


@pytest.mark.parametrize("error", [BrokenPipeError(errno.EPIPE, "Broken pipe"), OSError(28, "x")])
def test_an_error_of_the_caller_is_not_one_of_the_disk(models, tmp_path, error):
    def report(done, _total):
        if done >= 52:
            raise error

    with pytest.raises(type(error)) as caught:
        build(tmp_path / "c", models["mm1"], on_progress=report)
    assert caught.value is error
    assert build(tmp_path / "c", models["mm1"]).reused_tokens == 48


def test_a_context_that_is_there_needs_no_room(model, tmp_path, monkeypatch):
    attachments = {"corpus": b"some text"}
    build(tmp_path / "c", model, attachments=attachments)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("*.*")}
    FullDisk(monkeypatch, 0)
    usage = type("Usage", (), {"free": 0})
    monkeypatch.setattr("engine.store.store.shutil.disk_usage", lambda _path: usage)
    built = build(tmp_path / "c", model, attachments=attachments)
    assert built.reused_tokens == len(IDS) and built.is_saved
    assert_same(built.context, cold(model))
    assert_same(store(tmp_path / "c", model).open(), cold(model))
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("*.*")}
    with pytest.raises(PlacementError, match="choose another folder"):
        build(tmp_path / "c", model, attachments={"corpus": b"other text"})


def test_a_stopped_build_says_how_it_goes_on(models, tmp_path):
    def stop(done, _total):
        if done >= 52:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "c", models["mm1"], on_progress=stop)
    with pytest.raises(StoreError, match="the same command goes on from there"):
        store(tmp_path / "c", models["mm1"]).open()
    shutil.rmtree(tmp_path / "c")
    with pytest.raises(StoreError, match="build one there"):
        store(tmp_path / "c", models["mm1"]).open()


def test_what_is_mapped_cannot_be_written_to(models, tmp_path):
    """A stray write would change what later questions read; here it would end the process."""
    build(tmp_path / "c", models["minimax"])
    path = str(min((tmp_path / "c" / "kv").iterdir()))
    context = store(tmp_path / "c", models["minimax"]).open()
    maps = Path("/proc/self/maps").read_text().splitlines()
    modes = {line.split()[1] for line in maps if line.endswith(path)}
    assert len(context) and modes and all("w" not in mode for mode in modes)
