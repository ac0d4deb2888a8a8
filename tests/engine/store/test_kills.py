"""Red here means a kill at the wrong moment costs a saved context, or leaves a mixture of two."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.rest
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked children")
def test_a_kill_at_every_operation_leaves_the_old_or_the_new_context(tmp_path):
    root = HERE.parents[2]
    paths = [str(root), str(root / "tests"), str(HERE)]
    done = subprocess.run(
        [sys.executable, str(HERE / "kill_everywhere.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("killed at") == 4
