"""int4 weights as float32, a block at a time, for matmuls of large M on CPUs.

One pass by the JIT (jit_ir.py) where it can be made and is right, else by torch, which takes
several times as long: as the result is the same, bit by bit, either may serve.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from kernels.jit import run
from kernels.quantized import Int4Weight

_CHUNK_BYTES = 2**14  # of codes that a thread takes at a time


def dequantize_int4(weight: Int4Weight, out: Tensor) -> Tensor:
    """`weight` [O, I] dequantised, in `out`: float32 [at least O, I], contiguous."""
    plain = out[: weight.shape[0]]
    if plain.is_cpu and _is_together(weight) and is_usable(weight.group):
        _dequantize(weight, plain)
        return plain
    return plain.copy_(weight.dequantize())


@run.probed
def is_usable(group: int) -> Iterator[run.Check]:
    """Whether int4 weights in groups of `group` come out as they should."""
    generator = torch.Generator().manual_seed(group)
    weight = Int4Weight.quantize(torch.randn(5, 3 * group, generator=generator), group)
    out = torch.empty(weight.shape)
    _dequantize(weight, out)
    yield out, weight.dequantize(), 0.0


def _is_together(weight: Int4Weight) -> bool:
    parts = (weight.packed, weight.scales, weight.offsets)
    return all(part.is_cpu and part.is_contiguous() for part in parts)


def _dequantize(weight: Int4Weight, out: Tensor) -> None:
    from kernels.linear import jit_ir

    num_out, width_bytes = weight.packed.shape
    args = jit_ir.DequantArgs(
        weight.packed.data_ptr(),
        weight.scales.data_ptr(),
        weight.offsets.data_ptr(),
        out.data_ptr(),
        num_out,
        weight.scales.shape[1],
        max(1, _CHUNK_BYTES // width_bytes),
        0,
    )
    run.run(jit_ir.compiled_dequant(weight.group), args)
