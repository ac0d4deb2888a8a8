"""Matmuls with GGML's blocks on CPUs by the JIT, which compiles at the first matmul.

x is rounded to int16 once a call (pack_ir.py), for all parts of a stack. Small M reads the blocks
as fast as the memory gives them (small_m_ir.py); large M unpacks some outputs into the cache for
all rows (large_m_ir.py). In either what a row gives does not depend, bit by bit, on the rows beside
it or on the number of threads.

Whether that code can be made, is right and batch-invariant is probed, not assumed. Where it is not,
dequantize_blocks.py serves.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import gradients
from kernels.ggml import BlockType, GgmlWeight
from kernels.ggml.random import random_weight
from kernels.jit import run
from kernels.linear import dequantize_blocks
from kernels.quantized import Weight

SMALL_M = 24
_CHUNK_BYTES = 2**15  # of weights that a thread takes at a time, at small M
_WORKSPACE_BYTES = 3 * 2**16  # of unpacked weights in a thread's cache, at large M
_LANES = 16  # outputs that are unpacked side by side
_OUTS = 4  # outputs that are computed together at small M
_PARALLEL_ELEMENTS = 2**15  # of x, from which on more threads than one pack it
_MOST_COLUMNS = 2**17  # whose scales are on each thread's stack
_BEYOND_BYTES = 32  # small_m_ir.py reads scales of x in vectors
_TOLERANCE = 2.0**-13


@dataclass(frozen=True, slots=True)
class PackedRows:
    """`x` [M, I] rounded to int16, in one piece of memory: what it is, and where."""

    memory: Tensor
    num_rows: int
    width: int

    @property
    def addresses(self) -> tuple[int, int, int, int]:
        """Of codes, scales, sums of 32 columns and sums of 16: see `pack_ir.PackArgs`."""
        codes = self.memory.data_ptr()
        scales = codes + 2 * self.num_rows * self.width
        sums = scales + self.num_rows * self.width // 8
        return codes, scales, sums, sums + self.num_rows * self.width // 8


def linear(x: Tensor, weight: GgmlWeight) -> Tensor:
    if not supports(x, weight):
        return dequantize_blocks.linear(x, weight)
    return _matmul(x, weight).to(x.dtype)


def supports(x: Tensor, weight: GgmlWeight) -> bool:
    """Whether x [M, I] is on a CPU, and nobody wants a gradient."""
    return x.is_cpu and x.shape[0] > 0 and not gradients.wanted(x) and supports_weight(weight)


def supports_weight(weight: GgmlWeight) -> bool:
    packed, kind = weight.packed, weight.type
    is_known = packed.is_cpu and packed.is_contiguous() and packed.dim() == 2
    most_bytes = _MOST_COLUMNS // kind.elements * kind.num_bytes
    return is_known and packed.shape[1] <= most_bytes and is_usable(kind)


def pack(x: Tensor) -> PackedRows:
    """`x` [M, I], I a multiple of 32."""
    from kernels.linear.ggml import pack_ir

    rows = x.float().contiguous()
    num_rows, width = rows.shape
    num_bytes = num_rows * (2 * width + width // 2) + _BEYOND_BYTES
    packed = PackedRows(torch.empty(num_bytes, dtype=torch.uint8), num_rows, width)
    args = pack_ir.PackArgs(rows.data_ptr(), *packed.addresses, num_rows, width, 1, 0)
    num_threads = None if rows.numel() >= _PARALLEL_ELEMENTS else 1
    run.run(pack_ir.compiled(), args, num_threads)
    return packed


def multiply(rows: PackedRows, weight: GgmlWeight, out: Tensor, first: int = 0) -> None:
    """Into the columns of `out` [M, more] float32, contiguous, from number `first` on."""
    _check(rows.width, weight)
    multiply_some = _small_m if rows.num_rows <= SMALL_M else _large_m
    multiply_some(rows, weight, out.data_ptr() + 4 * first, out.shape[1])


@run.probed
def is_usable(kind: BlockType) -> Iterator[run.Check]:
    """Whether weights of `kind` can be multiplied, at small M and at large."""
    generator = torch.Generator().manual_seed(0)
    width = 512 if kind.elements == 256 else 352
    weight = random_weight(kind, _LANES + 5, width, generator)
    for num_rows in (7, SMALL_M + 5):
        x = torch.randn(num_rows, width, generator=generator)
        got = _matmul(x, weight)
        yield got, x.double() @ weight.dequantize(torch.float64).T, _TOLERANCE
        if num_rows <= SMALL_M:
            yield got, torch.cat([_matmul(row[None], weight) for row in x]), 0.0


def _matmul(x: Tensor, weight: GgmlWeight) -> Tensor:
    _check(x.shape[1], weight)
    out = torch.empty(x.shape[0], weight.packed.shape[0])
    multiply(pack(x), weight, out)
    return out


def stacked(x: Tensor, parts: Sequence[Weight], of_other: Callable[[Weight], Tensor]) -> Tensor:
    """`x` [M, I] with each of `parts`, one result beside the other: [M, O] float32.

    x is packed once for all that are blocks; `of_other` multiplies what is served elsewhere.
    """
    heights = [p.packed.shape[0] if isinstance(p, GgmlWeight) else p.shape[0] for p in parts]
    out = torch.empty(x.shape[0], sum(heights), dtype=torch.float32, device=x.device)
    packed, start = None, 0
    for part, height in zip(parts, heights, strict=True):
        if isinstance(part, GgmlWeight) and supports(x, part):
            packed = packed or pack(x)
            multiply(packed, part, out, start)
        else:
            out[:, start : start + height] = of_other(part)
        start += height
    return out


def _check(width: int, weight: GgmlWeight) -> None:
    if width * weight.type.num_bytes != weight.packed.shape[1] * weight.type.elements:
        raise ValueError(f"linear: rows of {width} elements, a weight of {[*weight.shape]}")


def _small_m(rows: PackedRows, weight: GgmlWeight, address: int, out_stride: int) -> None:
    from kernels.linear.ggml import small_m_ir

    num_out, row_bytes = weight.packed.shape
    args = small_m_ir.GemmArgs(
        *_inputs(rows, weight),
        address,
        rows.num_rows,
        num_out,
        rows.width,
        out_stride,
        _OUTS * max(1, _CHUNK_BYTES // (_OUTS * row_bytes)),
        0,
    )
    run.run(small_m_ir.compiled(weight.type), args)


def _large_m(rows: PackedRows, weight: GgmlWeight, address: int, out_stride: int) -> None:
    from kernels.linear.ggml import large_m_ir

    num_threads, num_out = torch.get_num_threads(), weight.packed.shape[0]
    most = _WORKSPACE_BYTES // large_m_ir.workspace_bytes(rows.width, _LANES)
    each = -(-num_out // (2 * num_threads * _LANES))  # so that there is work for all
    chunk = _LANES * max(1, min(most, each))
    num_bytes = large_m_ir.workspace_bytes(rows.width, chunk)
    workspace = torch.empty(num_threads * num_bytes, dtype=torch.uint8)
    args = large_m_ir.GemmArgs(
        *_inputs(rows, weight),
        address,
        workspace.data_ptr(),
        rows.num_rows,
        num_out,
        rows.width,
        out_stride,
        chunk,
        num_bytes,
        0,
        0,
    )
    run.run(large_m_ir.compiled(weight.type), args)


def _inputs(rows: PackedRows, weight: GgmlWeight) -> tuple[int, int, int, int]:
    from kernels.linear.ggml.unpack_ir import FORMATS

    codes, scales, sums, half_sums = rows.addresses
    of_groups = sums if FORMATS[weight.type].group == 32 else half_sums
    return codes, scales, of_groups, weight.packed.data_ptr()
