"""What a command opens and imports before it does its work, seen from a process of its own."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

_OBSERVED = """
import collections, json, os, sys

opened = collections.Counter()

def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        opened[os.path.abspath(os.fsdecode(arguments[0]))] += 1

sys.addaudithook(watch)
where = sys.argv.pop(1)
from mm1cli.__main__ import main
try:
    main()
finally:
    with open(where, "w") as file:
        json.dump({"opened": opened, "modules": list(sys.modules)}, file)
"""


@pytest.fixture
def observed(no_settings, tmp_path):
    """Runs `mm1 ARGS`; returns how often each file was opened, and the modules imported."""

    def run(*arguments: object) -> tuple[Counter[str], set[str]]:
        told = tmp_path / "told.json"
        words = [sys.executable, "-c", _OBSERVED, str(told), *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        ran = subprocess.run(words, capture_output=True, text=True, env=environment)
        assert ran.returncode == 0, ran.stderr
        found = json.loads(told.read_text())
        return Counter(found["opened"]), set(found["modules"])

    return run


@pytest.fixture
def installed(no_settings, checkpoints, tmp_path) -> Path:
    """A model by its name, beside another that nobody asks for."""
    from mm1cli.models.library import models_dir, write_manifest

    models_dir().mkdir(parents=True)
    for name in ("llama", "minimax"):
        folder = models_dir() / name
        folder.mkdir()
        for file in checkpoints[name].iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        write_manifest(folder, {"name": name})
    return models_dir()


@pytest.mark.parametrize("command", ["ask", "analyze", "tokens"])
def test_each_file_of_a_model_is_read_once(command, observed, installed, notes, mm1):
    """Red: a config or tokenizer is parsed again, or models that nobody named are looked at."""
    words: list[object] = [command, notes, "-m", "llama"]
    if command == "ask":
        assert mm1("context", "build", notes, "-o", "c", "-m", "llama").code == 0
        words = [command, "c", "Who?", "-m", "llama"]
    elif command == "analyze":
        words.append("Who?")
    opened, _ = observed(*words)
    own = {path: count for path, count in opened.items() if Path(path).is_relative_to(installed)}
    names = {str(Path(path).relative_to(installed)) for path in own}
    files = ("mm1-model.json", "config.json", "tokenizer.json")
    assert names >= {f"llama/{name}" for name in files}
    assert {path: count for path, count in own.items() if count > 1} == {}
    assert not any(name.startswith("minimax/") for name in names)
    packaged = Path(sys.modules["mm1cli"].__path__[0]) / "models"
    assert not any(Path(path).is_relative_to(packaged) and "hybrid" in path for path in opened)


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["logs", "list"], ["tokens", "x.txt"]]
)
def test_what_needs_no_weights_imports_no_torch(words, observed, installed):
    """Red: a help page takes seconds."""
    Path("x.txt").write_text("The crossing is 1,240 metres long.")
    _, modules = observed(*words, *(["-m", "llama"] if words[0] == "tokens" else []))
    assert not modules & {"torch", "llvmlite", "llguidance", "transformers", "pypdf"}


def test_torch_is_imported_without_collecting_garbage():
    """Red: a third of torch's import goes into looking through what stays."""
    code = (
        "import gc, sys\n"
        "from engine.imports import importing_torch\n"
        "with importing_torch():\n"
        "    import torch\n"
        "    assert not gc.isenabled()\n"
        "assert gc.isenabled() and gc.get_freeze_count() > 100_000\n"
        "before = gc.get_freeze_count()\n"
        "with importing_torch():\n"
        "    assert gc.isenabled()\n"
        "assert gc.get_freeze_count() == before\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
