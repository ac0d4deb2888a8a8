"""Red here means a model of another program is not found, or a hostile folder stops the walk."""

import json
import os
from pathlib import Path

import pytest
from mini import write_tiny_gguf
from model_stores import COMMIT, sha256, write_hub, write_ollama

from mm1cli.errors import ModelError
from mm1cli.models import library, names, scan, stores
from mm1cli.models.describe import describe
from mm1cli.models.scan import Scan

OTHER = "f" * 40


@pytest.fixture
def home(own_home, tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MM1_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(stores, "_SERVICE", tmp_path / "no service")
    return own_home


@pytest.fixture(scope="module")
def gguf(tmp_path_factory) -> bytes:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf").read_bytes()


def walk(models_dir=None, scanned=None):
    found = stores.walk(scanned or Scan(), models_dir, os.environ)
    return {one.name: one for one in found}


def put(path: Path, content: bytes = b"GGUF") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def checkpoint(llama: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in llama.iterdir()}


@pytest.mark.parametrize(
    ("place", "spelled"),
    [
        ("registry.ollama.ai/library/qwen2.5-coder/1.5b", ["qwen2.5-coder:1.5b"]),
        ("registry.ollama.ai/library/llama3/latest", ["llama3", "llama3:latest", "LLAMA3"]),
        ("registry.ollama.ai/someone/tiny/v1", ["someone/tiny:v1"]),
        ("hf.co/Someone/Tiny-GGUF/Q4_K_M", ["hf.co/Someone/Tiny-GGUF:Q4_K_M"]),
    ],
)
def test_ollama_is_found_by_its_own_names(home, gguf, place, spelled):
    blob = write_ollama(home / ".ollama/models", place, gguf)
    for name in spelled:
        assert library.resolve(name) == blob
    (one,) = walk().values()
    assert (one.store, one.sha256, one.num_bytes) == ("Ollama", sha256(gguf), len(gguf))
    assert describe(blob).family == "llama" and not describe(blob).problem


def test_ollama_elsewhere(home, gguf, tmp_path, monkeypatch):
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "big disk"))
    write_ollama(tmp_path / "big disk", "registry.ollama.ai/library/tiny/1b", gguf)
    assert set(walk()) == {"tiny:1b"}


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ({"digest": "sha256:" + "a" * 64}, "its blob sha256-aaaaaaaaaaaa... is missing"),
        ({"size": 10**9}, "cut, "),
        ({"digest": "sha256:../../../etc/passwd"}, "names no blob"),
        ({"digest": 3}, "cannot be read"),
        ({"size": "many"}, "names no blob"),
    ],
)
def test_a_manifest_that_leads_nowhere_says_what_to_do(home, gguf, layer, words):
    write_ollama(home / ".ollama/models", "registry.ollama.ai/library/tiny/1b", gguf, **layer)
    (one,) = walk().values()
    assert words in one.problem and "`ollama pull tiny:1b` fetches it again" in one.problem
    with pytest.raises(ModelError, match="ollama pull tiny:1b"):
        library.resolve("tiny:1b")


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"layers": 3}', "\0"])
def test_a_manifest_that_makes_no_sense_is_no_crash(home, gguf, text):
    root = home / ".ollama/models"
    write_ollama(root, "registry.ollama.ai/library/tiny/1b", gguf)
    put(root / "manifests/registry.ollama.ai/library/tiny/1b", text.encode())
    (one,) = walk().values()
    assert "cannot be read" in one.problem


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_hub_snapshot_is_found_through_two_links(home, llama, is_shared):
    """huggingface_hub 2 links blobs to a cache-wide folder."""
    files = checkpoint(llama)
    root = home / ".cache/huggingface/hub"
    snapshot = write_hub(root, "Someone/Tiny", files, is_shared=is_shared)
    for name in ("Someone/Tiny", "Someone/Tiny@main", f"Someone/Tiny@{COMMIT[:8]}"):
        assert library.resolve(name) == snapshot
    for path in (snapshot, root / "models--Someone--Tiny", snapshot / "config.json"):
        assert library.resolve(str(path)) == snapshot
    assert describe(snapshot).num_parameters > 0


def test_ggufs_of_a_snapshot_have_their_labels(home, gguf):
    root = home / ".cache/huggingface/hub"
    files = {"tiny-Q4_K_M.gguf": gguf, "tiny-q8_0.gguf": gguf + b"\0", "mmproj-tiny.gguf": b"GGUF"}
    snapshot = write_hub(root, "Someone/Tiny-GGUF", files)
    assert set(walk()) == {"Someone/Tiny-GGUF:Q4_K_M", "Someone/Tiny-GGUF:Q8_0"}
    assert library.resolve("Someone/Tiny-GGUF:q8_0") == snapshot / "tiny-q8_0.gguf"
    for name in ("Someone/Tiny-GGUF", str(snapshot)):
        with pytest.raises(ModelError, match=r"Q4_K_M.*[qQ]8_0.*: name one of them"):
            library.resolve(name)
    assert walk()["Someone/Tiny-GGUF:Q4_K_M"].sha256 == sha256(gguf)


def test_revisions_are_told_apart(home, gguf):
    root = home / ".cache/huggingface/hub"
    write_hub(root, "Someone/Tiny-GGUF", {"old.gguf": gguf}, commit=OTHER, is_main=False)
    new = write_hub(root, "Someone/Tiny-GGUF", {"new.gguf": gguf + b"\0"})
    assert library.resolve("Someone/Tiny-GGUF") == new / "new.gguf"
    assert library.resolve(f"Someone/Tiny-GGUF@{OTHER[:7]}").name == "old.gguf"


def test_a_half_fetched_repository_says_so(home, llama):
    root = home / ".cache/huggingface/hub"
    files = checkpoint(llama)
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    write_hub(root, "A/Cut", files | {"model.safetensors.index.json": json.dumps(index).encode()})
    put(root / "models--A--Begun/blobs/abc.incomplete")
    put(root / "models--A--Begun/refs/main", COMMIT.encode())
    found = walk()
    assert found["A/Cut"].problem == "1 of 2 files are missing: fetch it again"
    assert found["A/Begun"].problem == "half fetched: fetch it again"
    with pytest.raises(ModelError, match="A/Cut: 1 of 2 files are missing"):
        library.resolve("A/Cut")


def test_hub_caches_are_looked_for_where_these_programs_do(home, gguf, tmp_path, monkeypatch):
    for variable, folder in {
        "HF_HOME": "home/hub",
        "HF_HUB_CACHE": "cache",
        "LLAMA_CACHE": "llama",
        "XDG_CACHE_HOME": "xdg/huggingface/hub",
    }.items():
        monkeypatch.setenv(variable, str(tmp_path / folder.partition("/")[0]))
        write_hub(tmp_path / folder, f"A/{variable}", {"a.gguf": gguf})
    put(tmp_path / "llama/old-tiny-q4_0.gguf", gguf)
    assert set(walk()) == {
        "A/HF_HOME",
        "A/HF_HUB_CACHE",
        "A/LLAMA_CACHE",
        "A/XDG_CACHE_HOME",
        "old-tiny-q4_0",
    }


@pytest.mark.parametrize("root", [".lmstudio/models", ".cache/lm-studio/models", "moved/models"])
def test_lm_studio_is_found_by_repository_or_file(home, gguf, root):
    if root.startswith("moved"):
        put(home / ".lmstudio-home-pointer", f"{home / 'moved'}\n".encode())
    file = put(home / root / "someone/Tiny-GGUF/tiny-Q4_K_M.gguf", gguf)
    for name in ("someone/Tiny-GGUF", "someone/Tiny-GGUF:Q4_K_M", "tiny-Q4_K_M.gguf"):
        assert library.resolve(name) == file


def test_a_folder_of_ones_own(home, gguf, llama, tmp_path):
    mine = tmp_path / "mine"
    put(mine / "a.gguf", gguf)
    for number in (1, 2):
        put(mine / f"deep/big-{number:05d}-of-00002.gguf", gguf)
    put(mine / "cut/big-00001-of-00003.gguf", gguf)
    for path in llama.iterdir():
        put(mine / "llama" / path.name, path.read_bytes())
    found = walk(mine)
    assert found["deep/big-00001-of-00002"].num_bytes == 2 * len(gguf)
    assert found["cut/big-00001-of-00003"].problem.startswith("2 of 3 files are missing")
    assert library.resolve("llama", mine) == mine / "llama"
    assert library.resolve("a", mine) == library.resolve("a.gguf", mine) == mine / "a.gguf"
    located = library.locate("a", mine)
    assert located.name == str(mine / "a.gguf"), "a name that lasts without --models-dir"
    with pytest.raises(ModelError, match="no model 'a'"):
        library.resolve("a")


def test_one_name_in_two_stores_is_asked_about_unless_it_is_one_file(home, gguf, tmp_path):
    write_hub(home / ".cache/huggingface/hub", "A/Tiny", {"tiny.gguf": gguf})
    other = put(home / ".lmstudio/models/A/Tiny/tiny.gguf", gguf)
    assert ".cache" in str(library.resolve("A/Tiny"))
    other.write_bytes(gguf + b"\0")
    with pytest.raises(ModelError, match=r"'A/Tiny' means .*hub.*, .*lmstudio.*: name one of them"):
        library.resolve("A/Tiny")


def test_hostile_folders_are_walked_within_bounds(home, gguf, tmp_path, monkeypatch):
    """Red: a loop of links, or a folder with a million files, keeps `find` busy."""
    root = home / ".cache/huggingface/hub"
    snapshot = write_hub(root, "A/Tiny", {"tiny.gguf": gguf})
    (snapshot / "loop").symlink_to(snapshot)
    (snapshot / "self").symlink_to("self")
    (snapshot / "self.gguf").symlink_to("self.gguf")
    (root / "models--A--Loop").symlink_to(root)
    (home / ".lmstudio").mkdir()
    (home / ".lmstudio/models").symlink_to(home)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "up").symlink_to(tmp_path)
    found = walk(mine)
    assert found["A/Tiny:TINY" if "A/Tiny:TINY" in found else "A/Tiny:tiny"].problem == ""
    for number in range(100):
        put(mine / f"{number}.gguf")
    monkeypatch.setattr(scan, "MOST_ENTRIES", 50)
    scanned = Scan(_entries_left=50)
    assert len(walk(mine, scanned)) <= 50
    assert any("looked no further" in line for line in scanned.complaints)


@pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_one_line(home, gguf):
    write_ollama(home / ".ollama/models", "registry.ollama.ai/library/tiny/1b", gguf)
    (home / ".ollama/models/manifests").chmod(0)
    scanned = Scan()
    assert walk(scanned=scanned) == {}
    assert len(scanned.complaints) == 1 and "Permission denied" in scanned.complaints[0]


def test_an_unreadable_folder_is_one_line_for_whoever_runs_this(home, monkeypatch):
    """As root nothing is unreadable."""

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    (home / ".ollama/models/manifests").mkdir(parents=True)
    monkeypatch.setattr(os, "scandir", refuse)
    scanned = Scan()
    assert walk(scanned=scanned) == {}
    assert scanned.complaints == [
        f"{home / '.ollama/models/manifests'}: Permission denied; not looked into"
    ]


def test_headers_say_what_is_of_no_use(tmp_path, gguf, llama):
    """One line, each with what to do."""
    cut = put(tmp_path / "cut.gguf", gguf[: len(gguf) // 2])
    assert (
        describe(cut).problem.startswith("cut short") and "fetch it again" in describe(cut).problem
    )
    other = write_tiny_gguf(tmp_path / "other.gguf", architecture="tarsier")
    told = describe(other)
    assert told.family == "tarsier" and told.problem.startswith("not supported: tarsier, known: ")
    assert told.problem.endswith("serve it with llama-server")
    folder = tmp_path / "folder"
    for path in llama.iterdir():
        put(folder / path.name, path.read_bytes())
    assert describe(folder).problem == ""
    put(folder / "config.json", b'{"model_type": "tarsier"}')
    assert describe(folder).problem.startswith("not supported: tarsier, known: ")
    put(folder / "config.json", b"{")
    assert describe(folder).problem
    assert describe(tmp_path / "nothing.gguf").problem


def test_paths_that_are_no_models_say_what_is_missing(home, tmp_path, gguf):
    put(tmp_path / "notes.txt", b"words")
    with pytest.raises(ModelError, match="is no GGUF file"):
        library.resolve(str(tmp_path / "notes.txt"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"holds no config\.json and no GGUF file"):
        library.resolve(str(tmp_path / "empty"))
    one = put(tmp_path / "one/a.gguf", gguf)
    assert names.at_path(str(tmp_path / "one")) == one
    put(tmp_path / "one/b.gguf", gguf)
    with pytest.raises(ModelError, match=r"holds a\.gguf, b\.gguf: name one"):
        library.resolve(str(tmp_path / "one"))
    with pytest.raises(ModelError):
        library.resolve("a\0b")


def test_an_unknown_name_is_told_what_is_near(home, gguf):
    write_ollama(home / ".ollama/models", "registry.ollama.ai/library/qwen2.5-coder/1.5b", gguf)
    with pytest.raises(ModelError, match=r"did you mean 'qwen2\.5-coder:1\.5b'\?"):
        library.resolve("qwen2.5-coder:15b")
    with pytest.raises(ModelError, match="`mm1 models pull coder` fetches it"):
        library.resolve("codr")
