"""Red here means a saved context takes memory for what is in its files."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
pytestmark = [
    pytest.mark.rest,
    pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does"),
]


def run(folder, how):
    root = HERE.parents[2]
    paths = [str(root), str(root / "tests"), str(HERE)]
    return subprocess.run(
        [sys.executable, str(HERE / "limited.py"), str(folder), how],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
    )


def test_a_context_larger_than_the_memory_is_built_and_answers_and_else_is_refused(tmp_path):
    in_memory = run(tmp_path / "a", "in-memory")
    assert in_memory.returncode != 0, "the limit is none"
    assert "memory" in in_memory.stderr
    unlimited = run(tmp_path / "b", "unlimited")
    mapped = run(tmp_path / "c", "mapped")
    assert mapped.returncode == 0, mapped.stderr
    by_layers = run(tmp_path / "d", "by-layers")
    assert by_layers.returncode == 0, by_layers.stderr
    assert by_layers.stdout.split() == unlimited.stdout.split() * 2
    *digests, saved, held = mapped.stdout.splitlines()
    assert digests == unlimited.stdout.split() * 2
    assert saved == "fits"
    assert re.match(r"needs 0\.\d\d GB = weights 0\.00 \+ KV 0\.18 ", held), held
