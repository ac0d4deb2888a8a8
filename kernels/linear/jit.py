"""Matmuls of small M with int8 and int4 weights on CPUs, at the speed of reading the weights.

The codes become float32 in registers, by the JIT (jit_ir.py), which compiles at the first matmul.
x and sums are float32, nothing is rounded beyond that; what a row gives does not depend, bit by
bit, on the rows beside it or on the number of threads. Weights are read where they lie, at any
address.

Whether that code can be made, is right and batch-invariant is probed, not assumed. Where it is not,
and for large M, which is limited by arithmetic and not by reading, dequantize_blocks.py serves.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from kernels import gradients
from kernels.jit import run
from kernels.jit.program import Call, Value
from kernels.linear import dequantize_blocks
from kernels.quantized import Int4Weight, Int8Weight, IntWeight

SMALL_M = 24  # from there on blocks are as fast with int4; with int8 from 64 on
_CHUNK_BYTES = 2**15  # of weights that a thread takes at a time
_MAX_SUMS = 2**16  # of groups, on each thread's stack
_PROBED = (15, 5, 18)  # M, outputs, groups: all tiles, whole vectors and what is left


def linear(x: Tensor, weight: IntWeight) -> Tensor:
    return _matmul(x, weight) if supports(x, weight) else dequantize_blocks.linear(x, weight)


def supports(x: Tensor, weight: IntWeight) -> bool:
    """Whether x [M, I] is of small M on a CPU, and nobody wants a gradient."""
    is_small_m = x.is_cpu and 0 < x.shape[0] <= SMALL_M
    return is_small_m and not gradients.wanted(x) and supports_weight(weight)


def supports_weight(weight: IntWeight) -> bool:
    """Whether small M is multiplied with this weight here and not by blocks."""
    scales = weight.scales
    if not (scales.is_cpu and scales.is_contiguous()):
        return False
    if isinstance(weight, Int8Weight):
        return weight.codes.is_contiguous() and is_usable(0)
    return (
        weight.packed.is_contiguous()
        and weight.offsets.is_contiguous()
        and SMALL_M * scales.shape[-1] <= _MAX_SUMS
        and is_usable(weight.group)
    )


@run.probed
def is_usable(group: int) -> Iterator[run.Check]:
    """Whether int4 weights in groups of `group`, or int8 weights if it is 0, can be multiplied."""
    num_rows, num_out, num_groups = _PROBED
    width = num_groups * group if group else 90
    generator = torch.Generator().manual_seed(group)
    x = torch.randn(num_rows, width, generator=generator)
    weight = _random(num_out, width, group, generator)
    got = _matmul(x, weight)
    yield got, x.double() @ weight.dequantize(torch.float64).T, 1e-5
    yield got, torch.cat([_matmul(row[None], weight) for row in x]), 0.0


def _matmul(x: Tensor, weight: IntWeight) -> Tensor:
    num_rows, width = x.shape
    num_out, of_weight = weight.shape
    if width != of_weight:
        raise ValueError(f"linear: rows of {width} elements, a weight of {list(weight.shape)}")
    rows = x.float().contiguous()
    out = rows.new_empty(num_rows, num_out)
    linear_call(rows.data_ptr(), weight, out.data_ptr(), num_rows, num_out).run()
    return out.to(x.dtype)


def linear_call(x: Value, weight: IntWeight, out: Value, num_rows: Value, out_width: int) -> Call:
    """`linear` of `num_rows` float32 rows with a `weight` that `supports_weight`, into columns of
    rows of `out_width`."""
    from kernels.linear import jit_ir

    codes, offsets, group = _codes(weight)
    addresses = (
        x,
        codes.data_ptr(),
        weight.scales.data_ptr(),
        None if offsets is None else offsets.data_ptr(),
        out,
    )
    chunk = jit_ir.OUTS * max(1, _CHUNK_BYTES // (jit_ir.OUTS * codes.shape[1]))
    values = (*addresses, num_rows, *weight.shape, out_width, chunk, 0)
    return Call(jit_ir.compiled(group), jit_ir.GemmArgs, values, is_parallel=True)


def _codes(weight: IntWeight) -> tuple[Tensor, Tensor | None, int]:
    """Codes, offsets and the columns of a group, 0 for int8."""
    if isinstance(weight, Int8Weight):
        return weight.codes, None, 0
    return weight.packed, weight.offsets, weight.group


def _random(num_out: int, width: int, group: int, generator: torch.Generator) -> IntWeight:
    weight = torch.randn(num_out, width, generator=generator)
    return Int4Weight.quantize(weight, group) if group else Int8Weight.quantize(weight)
