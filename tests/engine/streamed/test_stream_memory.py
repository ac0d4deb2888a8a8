"""Red here means a model must fit into memory after all, or is another one where it does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
pytestmark = [
    pytest.mark.rest,
    pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does"),
]


def child(*arguments):
    root = HERE.parents[2]
    paths = os.pathsep.join([str(root), str(root / "tests")])
    return subprocess.run(
        [sys.executable, str(HERE / "streamed_limited.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )


def answers_alike(folder, hidden_size, num_layers, headroom_mb):
    """Bytes of the checkpoint and of the limit, and how many contexts were read at once, once both
    runs have given the same logits."""
    made = child("make", folder, hidden_size, num_layers)
    assert made.returncode == 0, made.stderr
    streamed = child("run", folder, headroom_mb)
    assert streamed.returncode == 0, streamed.stderr
    unlimited = child("run", folder, "unlimited")
    assert unlimited.returncode == 0, unlimited.stderr
    digest, limit, num_bytes, at_once = streamed.stdout.split()
    assert digest == unlimited.stdout.split()[0]
    return int(num_bytes), int(limit), int(at_once)


def test_a_model_of_three_times_the_memory_left_reads_and_answers_as_without_a_limit(tmp_path):
    num_bytes, _, at_once = answers_alike(tmp_path, 288, 8, headroom_mb=80)
    assert num_bytes > 3 * 80 << 20
    assert at_once < 16  # no more than there is room for


@pytest.mark.slow
def test_a_model_of_three_times_all_memory_reads_and_answers_as_without_a_limit(tmp_path):
    """The hard limit is on all this process has, libraries included. Writes 1.6 GB."""
    num_bytes, limit, _ = answers_alike(tmp_path, 576, 16, headroom_mb=160)
    assert num_bytes > 3 * limit
