"""Red here means that a run takes another model than it says, or than fits."""

import json
from pathlib import Path

import pytest
from model_stores import packaged

from engine import model_files
from mm1cli.errors import InputError
from mm1cli.models import default, library, removal
from mm1cli.models import packaged as pins

GB = 10**9


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MM1_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data/models"


def free(num_bytes: int, monkeypatch) -> None:
    monkeypatch.setattr(model_files, "available_bytes", lambda device: num_bytes)


def install(home: Path, name: str, num_bytes: int, parameters: int) -> Path:
    """Looks as if mm1 had pulled it; a sparse file takes no room."""
    folder = home / library.folder_of(name)
    folder.mkdir(parents=True)
    with (folder / "x.gguf").open("wb") as file:
        file.truncate(num_bytes)
    told = {
        "name": name,
        "gguf": "x.gguf",
        "repository": name.partition(":")[0],
        "parameters": parameters,
        "files": {"x.gguf": {"bytes": num_bytes, "sha256": "0" * 64}},
    }
    (folder / "mm1-model.json").write_text(json.dumps(told))
    return folder


def test_small_comes_first_where_nothing_is_installed(home, monkeypatch):
    free(100 * GB, monkeypatch)
    choice = default.choose("cpu")
    assert choice == default.Choice("small", "comes with mm1, fetched on first use")


def test_mini_is_never_taken_where_small_fits(home, monkeypatch):
    free(100 * GB, monkeypatch)
    install(home, "mini", GB, 135_000_000)
    assert default.choose("cpu").name == "small"


def test_a_machine_too_small_for_small_takes_mini_and_says_why(home, monkeypatch):
    free(600_000_000, monkeypatch)
    assert default.choose("cpu") == default.Choice(
        "mini", "small takes 0.8 GB of memory, 0.6 GB is free"
    )


def test_the_largest_that_fits_is_taken(home, monkeypatch):
    """By parameters: one in more bits takes more room, and is no better for it."""
    install(home, "A/Four", 3 * GB, 4 * 10**9)
    install(home, "A/Two-In-Floats", 5 * GB, 2 * 10**9)
    install(home, "A/Seventy", 40 * GB, 70 * 10**9)
    for room, name in ((100, "A/Seventy"), (20, "A/Four"), (4, "A/Four"), (2, "small")):
        free(room * GB, monkeypatch)
        assert default.choose("cpu").name == name
    free(20 * GB, monkeypatch)
    assert default.choose("cpu").why == "largest installed that fits"


@pytest.mark.parametrize("damage", ["cut", "gone", "no manifest"])
def test_what_is_not_whole_is_not_taken(home, monkeypatch, damage):
    free(100 * GB, monkeypatch)
    folder = install(home, "A/Four", 3 * GB, 4 * 10**9)
    if damage == "cut":
        (folder / "x.gguf").write_bytes(b"GGUF")
    else:
        (folder / ("x.gguf" if damage == "gone" else "mm1-model.json")).unlink()
    assert default.choose("cpu").name == "small"


def test_what_use_set_is_taken_until_it_is_taken_back_or_removed(home, monkeypatch):
    free(100 * GB, monkeypatch)
    install(home, "A/Four", 3 * GB, 4 * 10**9)
    default.use("A/Other")
    assert default.choose("cpu") == default.Choice("A/Other", "set by `mm1 models use`")
    default.use("auto")
    assert default.choose("cpu").name == "A/Four"
    default.use("A/Four")
    assert removal.remove("A/Four")
    assert default.choose("cpu").name == "small"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": 3}', '{"model": " "}', "[" * 100_000])
def test_a_damaged_note_of_the_default_is_none(home, monkeypatch, text):
    free(100 * GB, monkeypatch)
    home.parent.mkdir(parents=True)
    (home.parent / "default.json").write_text(text)
    assert default.choose("cpu").name == "small"


def test_only_what_mm1_fetched_is_removed(home, tmp_path, own_home):
    folder = install(home, "A/Four", 3 * GB, 4 * 10**9)
    mine = home / "mine"
    mine.mkdir()
    (mine / "config.json").write_text("{}")
    (home / "linked").symlink_to(folder)
    other = tmp_path / "other"
    other.mkdir()
    for name, words in {
        "mine": "was not put there by mm1",
        "linked": "is a symbolic link",
        "nothing": "mm1 has fetched no such model",
        "..": "not a name",
        "../../other": "not a name",
        str(other): "not a name",
        ".": "not a name",
        "": "not a name",
    }.items():
        with pytest.raises(InputError, match=words) as caught:
            removal.check_removable(name, None)
        assert "nothing was removed" in str(caught.value) or "list" in str(caught.value)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds notes\.txt, which mm1 did not put there"):
        removal.check_removable("A/Four", None)
    (folder / "notes.txt").unlink()
    removal.check_removable("A/Four", None)
    assert removal.remove("A/Four")
    assert {path.name for path in home.iterdir()} == {"mine", "linked", ".A--Four.lock"}


def test_what_a_stopped_pull_left_is_removed_too(home):
    for name in (".coder.partial", f".A--Four.{'0' * 12}.partial", ".A--Four.0123abcd.gone"):
        (home / name).mkdir(parents=True)
        (home / name / "x.partial").write_bytes(b"GGUF")
    for name in ("coder", "A/Four"):
        removal.check_removable(name, None)
        assert removal.remove(name)
    assert not [path for path in home.iterdir() if path.is_dir()]


def test_one_that_is_being_pulled_is_left(home, monkeypatch):
    install(home, "small", GB, 10**9)
    with library.pulling("small", lambda *_: None):
        import multiprocessing

        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(removal.remove, ("small",)) is False
    assert (home / "small").is_dir()


def test_a_linked_file_stays_when_the_model_is_removed(home, tmp_path, monkeypatch):
    content = b"GGUF" * 100
    file = tmp_path / "theirs.gguf"
    file.write_bytes(content)
    monkeypatch.setitem(pins.PACKAGED, "small", packaged(content, 100))
    assert library.pull("small", lambda *_: None, tmp_path) == file
    removal.check_removable("small", None)
    assert removal.remove("small")
    assert file.read_bytes() == content and not (home / "small").exists()
