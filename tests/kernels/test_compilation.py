"""Every Triton kernel, in every configuration, compiles for the GPUs it is meant for, and fits.

What is as it was when benchmarks/compilation.json was written is not compiled again.
"""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")


def test_every_configuration_fits_every_gpu():
    # In a process of its own: where kernels are interpreted, they cannot be compiled.
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.compilation", "--check"],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
