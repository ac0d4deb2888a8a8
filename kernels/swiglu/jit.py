"""silu(gate) up of few tokens on CPUs by the JIT (jit_ir.py), else by plain.py."""

from collections.abc import Iterator

import torch
from torch import Tensor

from kernels.jit import run
from kernels.swiglu import plain


def swiglu(gate_up: Tensor) -> Tensor:
    if run.supports(gate_up) and gate_up.is_contiguous() and is_usable():
        return _swiglu(gate_up)
    return plain.swiglu(gate_up)


@run.probed
def is_usable() -> Iterator[run.Check]:
    gate_up = torch.linspace(-100, 100, 3 * 74).view(3, 74)
    yield _swiglu(gate_up), plain.swiglu(gate_up), 1e-6


def _swiglu(gate_up: Tensor) -> Tensor:
    from kernels.swiglu import jit_ir

    width = gate_up.shape[-1] // 2
    out = gate_up.new_empty(*gate_up.shape[:-1], width)
    args = jit_ir.KernelArgs(
        gate_up.data_ptr(), out.data_ptr(), gate_up.numel() // (2 * width), width
    )
    run.run(jit_ir.compiled(), args, num_threads=1)
    return out
