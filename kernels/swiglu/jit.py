"""silu(gate) up of few tokens on CPUs by the JIT (jit_ir.py), else by plain.py."""

from collections.abc import Iterator

import torch
from torch import Tensor

from kernels.jit import run
from kernels.jit.program import Call, Value
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
    width = gate_up.shape[-1] // 2
    out = gate_up.new_empty(*gate_up.shape[:-1], width)
    num_rows = gate_up.numel() // (2 * width)
    swiglu_call(gate_up.data_ptr(), out.data_ptr(), num_rows, width).run()
    return out


def swiglu_call(gate_up: Value, out: Value, num_rows: Value, width: int) -> Call:
    """`swiglu` of `num_rows` rows of 2 `width`."""
    from kernels.swiglu import jit_ir

    return Call(jit_ir.compiled(), jit_ir.KernelArgs, (gate_up, out, num_rows, width))
