"""Red here means that nothing is compiled any more, and all goes slowly, in silence."""

import subprocess
import sys

import pytest
import torch

from kernels.attention import jit as attention_jit
from kernels.jit import run
from kernels.lightning import jit as lightning_jit
from kernels.linear import dequantize_int4, jit
from kernels.norm import jit as norm_jit
from kernels.quantized import GROUPS
from kernels.rotary import jit as rotary_jit
from kernels.swiglu import jit as swiglu_jit

needs_avx2 = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="another processor"
)


@needs_avx2
def test_processors_with_avx2_are_served():
    assert all(jit.is_usable(group) for group in (0, *GROUPS))
    assert all(dequantize_int4.is_usable(group) for group in GROUPS)
    assert all(attention_jit.is_usable(head_dim) for head_dim in (16, 64, 128))
    for module in (lightning_jit, norm_jit, rotary_jit, swiglu_jit):
        assert module.is_usable(), module.__name__


@pytest.mark.skipif(sys.platform != "linux", reason="another OpenMP")
def test_without_a_team_the_threads_are_those_of_torch():
    """Red: one thread does the work of all."""
    assert run._openmp() != 0


def test_importing_kernels_does_not_load_llvm():
    """Red: every command starts later, also those that multiply nothing."""
    code = "import sys, kernels; assert 'llvmlite' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
