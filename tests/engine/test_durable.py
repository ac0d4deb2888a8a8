"""Red here means a file is there in part, is left behind, or can be read by others."""

import os
import re
import stat
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine import durable


def text(part: Path) -> None:
    part.write_text("new")


def tensors(part: Path) -> None:
    save_file({"x": torch.ones(2)}, part)


@pytest.mark.skipif(os.name == "nt", reason="modes of files")
@pytest.mark.parametrize("fill", [text, tensors])
@pytest.mark.parametrize(
    ("umask", "is_private", "mode"),
    [(0o000, True, 0o600), (0o022, True, 0o600), (0o022, False, 0o644), (0o027, False, 0o640)],
)
def test_files_are_private_unless_a_user_named_them(tmp_path, fill, umask, is_private, mode):
    old = os.umask(umask)
    try:
        durable.write(tmp_path / "x", fill, is_private=is_private)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("at", ["fill", "sync", "replace"])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch, error, at):
    path = tmp_path / "x"
    path.write_text("old")

    def fail(*_):
        raise error

    if at == "sync":
        monkeypatch.setattr("engine.durable.os.fsync", fail)
    if at == "replace":
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(type(error)):
        durable.write(path, fail if at == "fill" else text)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_writers_of_one_path_do_not_disturb_each_other(tmp_path):
    """Red: a second process gives the first one's half-written bytes their name."""

    def slow(part: Path) -> None:
        part.write_text("ha")
        durable.write(tmp_path / "x", text)
        with part.open("a") as file:
            file.write("lf")

    durable.write(tmp_path / "x", slow)
    assert (tmp_path / "x").read_text() == "half"


def test_a_link_in_the_place_of_the_file_is_not_written_through(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "x").symlink_to(tmp_path / "mine")
    durable.write(tmp_path / "x", text)
    assert (tmp_path / "mine").read_text() == "mine" and (tmp_path / "x").read_text() == "new"


def test_what_a_kill_leaves_is_known_by_its_name(tmp_path):
    seen = []
    durable.write(tmp_path / "x", lambda part: (text(part), seen.append(part.name)))
    (tmp_path / seen[0]).touch()
    durable.remove_parts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_only_one_holds_a_lock_and_the_other_says_that_it_waits(tmp_path):
    waits, holds = threading.Event(), []

    def second() -> None:
        with durable.locked(tmp_path / "lock", waits.set):
            holds.append(2)

    with durable.locked(tmp_path / "lock", lambda: holds.append(0)):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(timeout=30)
        holds.append(1)
    thread.join(timeout=30)
    assert holds == [1, 2]


def test_a_folder_goes_without_what_its_links_lead_to(tmp_path):
    """Red: removing one folder empties another."""
    other, folder = tmp_path / "other", tmp_path / "folder"
    other.mkdir()
    (other / "file").touch()
    folder.mkdir()
    (folder / "to-folder").symlink_to(other)
    (folder / "to-file").symlink_to(other / "file")
    (tmp_path / "link").symlink_to(other)
    with pytest.raises(NotADirectoryError, match="link"):
        durable.remove_folder(tmp_path / "link", last="f")
    durable.remove_folder(folder, last="to-file")
    durable.remove_folder(folder)  # which is gone
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "link", "other"]


def test_one_function_removes_folders():
    """Red: there is a second way to remove one, with rules of its own."""
    root = Path(durable.__file__).parents[1]
    sources = [
        path for room in ("mm1cli", "engine", "kernels") for path in root.glob(f"{room}/**/*.py")
    ]
    told = [
        path.name
        for path in sources
        if re.search(r"rmtree|removedirs|os\.remove\b", path.read_text())
    ]
    assert told == ["durable.py"]
