"""Red here means a build clears away files that are not a context's, or one that was stopped can
not be told from somebody's folder."""

import os
import shutil
from pathlib import Path

import pytest
from builds import IDS, assert_same, build, cold
from streamed import stop_in_layer

from engine.errors import StoreError
from engine.store.owned import why_foreign


def everything(folder):
    """Every path there with its bytes; `followlinks` shows what a link leads to."""
    walk = os.walk(folder, followlinks=True)
    paths = [Path(at, name) for at, folders, files in walk for name in (*folders, *files)]
    return {path: path.read_bytes() if path.is_file() else None for path in paths}


FOREIGN = [
    "page.md",
    "film.part",
    "attachments/mail.txt",
    "kv/tokens-1.bin",
    "layers/map.svg",
    "album/2020/empty/",
]


@pytest.mark.parametrize("name", [*FOREIGN, "manifest.json", "partial.json"])
@pytest.mark.parametrize("is_context", [False, True])
def test_nothing_is_built_or_cleared_beside_others_files(models, tmp_path, name, is_context):
    model, folder = models["mm1"], tmp_path / "c"
    if is_context:
        build(folder, model, IDS[:40])
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir() if name.endswith("/") else path.write_text("{}")
    before = everything(folder)
    if is_context and name not in FOREIGN:  # a manifest that was damaged
        build(folder, model)
        return
    with pytest.raises(StoreError, match=name if is_context else "a folder of"):
        build(folder, model)
    notes = []
    built = build(folder, model, on_unsaved=notes.append)
    assert_same(built.context, cold(model))
    assert not built.is_saved and len(notes) == 1
    assert everything(folder) == before


@pytest.mark.parametrize("name", ["kv", "states", "attachments"])
def test_nothing_is_cleared_behind_a_link(models, tmp_path, name):
    model, folder = models["mm1"], tmp_path / "c"
    build(folder, model)
    (folder / name).rename(tmp_path / "outside")
    (tmp_path / "outside" / "mine.part").write_text("mine")
    (folder / name).symlink_to(tmp_path / "outside")
    before = everything(tmp_path)
    notes = []
    build(folder, model, on_unsaved=notes.append)
    assert everything(tmp_path) == before
    assert f"holds {name}," in notes[0]


def test_a_new_folder_and_an_empty_one_are_built_in(models, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun" / "kv").mkdir(parents=True)
    (tmp_path / "begun" / "lock").touch()
    for name in ("absent", "empty", "begun"):
        assert build(tmp_path / name, models["llama"]).is_saved
        assert why_foreign(tmp_path / name) == ""


@pytest.mark.parametrize("family", ["llama", "lightning", "mm1"])
def test_a_build_that_was_stopped_anywhere_is_told_by_its_names(models, tmp_path, family):
    """And needs no manifest, of which there is none before the first checkpoint."""
    seen = set()
    for at in range(1, len(IDS), 4):
        folder = tmp_path / f"{at}"

        def stop(done, _total, at=at):
            if done >= at:
                raise InterruptedError  # an interrupt would save where the work stands

        with pytest.raises(InterruptedError):
            build(folder, models[family], on_progress=stop)
        seen.add((folder / "partial.json").exists())
        assert why_foreign(folder) == ""
    assert seen == {False, True}
    stop_in_layer(tmp_path / "layers", models["mm1"], 3, IDS[:45])
    assert (tmp_path / "layers" / "layers").is_dir() and why_foreign(tmp_path / "layers") == ""


def test_a_damaged_context_is_told_by_its_names(models, tmp_path):
    build(tmp_path / "c", models["mm1"])
    (tmp_path / "c" / "manifest.json").write_bytes(b"")
    assert why_foreign(tmp_path / "c") == ""
    shutil.copytree(tmp_path / "c", tmp_path / "d", ignore=lambda *_: ["kv", "states"])
    assert why_foreign(tmp_path / "d") == ""
    next((tmp_path / "d").glob("tokens-*")).unlink()
    assert "without a saved context's manifest" in why_foreign(tmp_path / "d")
