"""Red here means a safety of the store could be lost without any other test going red."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_each_safety_is_guarded_by_a_test():
    script = Path(__file__).with_name("mutations.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("red ") >= 20
