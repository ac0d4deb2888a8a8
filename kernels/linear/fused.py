"""Products of few rows with int8 and int4 weights on CPUs, at the speed of reading the weights.

The codes become float32 in registers, by machine code that is made at the first product (see
lowered.py). Rows and sums are float32, nothing is rounded beyond that; what a row gives does not
depend, bit by bit, on the rows beside it or on the number of threads. Weights are read where they
lie, at any address.

Whether that code can be made, is right and independent of the rows is probed, not assumed. Where it
is not, and for many rows, which are limited by arithmetic and not by reading, blocks.py serves.
"""

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from kernels import gradients, openmp
from kernels.linear import blocks
from kernels.quantized import Int4Weight, Int8Weight, QuantizedWeight

FEW_ROWS = 32
_CHUNK_BYTES = 2**15  # of weights that a thread takes at a time
_MOST_SUMS = 2**16  # of groups, on each thread's stack
_MOST_ERROR = 1e-5
_PROBED = (7, 5, 4)  # rows, outputs, groups: all tiles, and the remainders


def linear(x: Tensor, weight: QuantizedWeight) -> Tensor:
    if serves(x, weight):
        return _product(x.float().contiguous(), weight).to(x.dtype)
    return blocks.linear(x, weight)


def serves(x: Tensor, weight: QuantizedWeight) -> bool:
    """Whether x [T, I] is few rows on a CPU, and nobody wants a gradient."""
    if x.device.type != "cpu" or not 0 < len(x) <= FEW_ROWS or gradients.wanted(x):
        return False
    return has_product(weight)


def has_product(weight: QuantizedWeight) -> bool:
    """Whether few rows are multiplied with this weight here and not by blocks."""
    group = _group_of(weight)
    fits = not group or FEW_ROWS * weight.shape[-1] // group <= _MOST_SUMS
    is_on_cpu = weight.scales.device.type == "cpu"
    return (
        is_on_cpu
        and fits
        and all(part.is_contiguous() for part in _parts(weight))
        and is_usable(group)
    )


@cache
def is_usable(group: int) -> bool:
    """Whether int4 weights in groups of `group`, or int8 weights if it is 0, can be multiplied."""
    if find_spec("llvmlite") is None:
        return False
    from kernels.linear import lowered

    if not lowered.is_known_machine():
        return False
    num_rows, num_out, num_groups = _PROBED
    width = num_groups * group if group else 77
    generator = torch.Generator().manual_seed(group)
    x = torch.randn(num_rows, width, generator=generator)
    weight = _random(num_out, width, group, generator)
    try:
        got = _product(x, weight)
    except RuntimeError:  # LLVM's
        return False
    want = x.double() @ weight.dequantize(torch.float64).T
    error = (got.double() - want).square().mean() / want.square().mean()
    alone = [_product(row[None], weight) for row in x]
    return bool(error.sqrt() < _MOST_ERROR) and torch.equal(got, torch.cat(alone))


def _product(x: Tensor, weight: QuantizedWeight) -> Tensor:
    from kernels.linear import lowered

    num_out, width = weight.shape
    codes, scales, *offsets = _parts(weight)
    out = x.new_empty(len(x), num_out)
    job = lowered.Job(
        x.data_ptr(),
        codes.data_ptr(),
        scales.data_ptr(),
        offsets[0].data_ptr() if offsets else None,
        out.data_ptr(),
        len(x),
        num_out,
        width,
        lowered.OUTS * max(1, _CHUNK_BYTES // (lowered.OUTS * codes.shape[1])),
        0,
    )
    openmp.run(lowered.compiled(_group_of(weight)), job)
    return out


def _parts(weight: QuantizedWeight) -> tuple[Tensor, ...]:
    if isinstance(weight, Int8Weight):
        return weight.codes, weight.scales
    return weight.packed, weight.scales, weight.offsets


def _group_of(weight: QuantizedWeight) -> int:
    return 0 if isinstance(weight, Int8Weight) else weight.group


def _random(num_out: int, width: int, group: int, generator: torch.Generator) -> QuantizedWeight:
    weight = torch.randn(num_out, width, generator=generator)
    return Int4Weight.quantize(weight, group) if group else Int8Weight.quantize(weight)
