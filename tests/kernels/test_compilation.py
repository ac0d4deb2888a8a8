"""Every Triton kernel compiles for the GPU it is meant for, without spills, and fits.

`python -m benchmarks.compilation` says so of every configuration and GPU, in minutes.
"""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")


def test_each_kernels_largest_configuration_fits():
    # In a process of its own: where kernels are interpreted, they cannot be compiled.
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.compilation", "--quick"],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
