"""Matmuls of float32 rows with float16 or bfloat16 weights, none of which are widened in memory.

At small M in registers, by the JIT (jit_ir.py) where it can be made, is right and batch-invariant;
else a block of outputs at a time (upcast_blocks.py).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from kernels import gradients
from kernels.jit import run
from kernels.jit.program import Call, Value
from kernels.linear import upcast_blocks

SMALL_M = 24  # from there on blocks are as fast
_CHUNK_BYTES = 2**15  # of weights that a thread takes at a time
_NARROW = (torch.float16, torch.bfloat16)
_PROBED = (15, 5, 90)  # M, outputs, columns: all tiles, whole vectors and what is left


def serves(x: Tensor, weight: Tensor) -> bool:
    """Whether x is float32, `weight` narrower, and nobody wants a gradient."""
    is_narrow = weight.dtype in _NARROW and not weight.is_mkldnn
    return is_narrow and x.dtype == torch.float32 and not gradients.wanted(x, weight)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x [M, I] float32, weight [O, I]: [M, O] float32."""
    if 0 < len(x) <= SMALL_M and supports_weight(weight):
        return _matmul(x, weight)
    return upcast_blocks.linear(x, weight)


def supports_weight(weight: Tensor) -> bool:
    """Whether small M is multiplied with this weight here and not by blocks."""
    is_known = weight.is_cpu and weight.dtype in _NARROW and weight.is_contiguous()
    return is_known and is_usable(weight.dtype)


@run.probed
def is_usable(dtype: torch.dtype) -> Iterator[run.Check]:
    num_rows, num_out, width = _PROBED
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(num_rows, width, generator=generator)
    weight = torch.randn(num_out, width, generator=generator).to(dtype)
    got = _matmul(x, weight)
    yield got, x.double() @ weight.double().T, 1e-5
    yield got, torch.cat([_matmul(row[None], weight) for row in x]), 0.0


def _matmul(x: Tensor, weight: Tensor) -> Tensor:
    num_out, width = weight.shape
    if x.shape[1] != width:
        raise ValueError(f"linear: rows of {x.shape[1]} elements, a weight of {[num_out, width]}")
    rows = x.contiguous()
    out = rows.new_empty(len(rows), num_out)
    linear_call(rows.data_ptr(), weight, out.data_ptr(), len(rows), num_out).run()
    return out


def linear_call(x: Value, weight: Tensor, out: Value, num_rows: Value, out_width: int) -> Call:
    """`linear` of `num_rows` rows with a `weight` that `supports_weight`, into columns of rows of
    `out_width`."""
    from kernels.linear import jit_ir

    num_out, width = weight.shape
    chunk = jit_ir.OUTS * max(1, _CHUNK_BYTES // (jit_ir.OUTS * 2 * width))
    sizes = (num_rows, num_out, width, out_width, chunk)
    values = (x, weight.data_ptr(), None, None, out, *sizes, 0)
    name = "float16" if weight.dtype == torch.float16 else "bfloat16"
    return Call(jit_ir.compiled_narrow(name), jit_ir.GemmArgs, values, is_parallel=True)
