from collections.abc import Iterator

import torch

from kernels import gradients
from kernels.ggml import GgmlWeight
from kernels.jit.program import ROWS, Call, Program, Slot
from kernels.linear import (
    dense,
    dequantize_blocks,
    fp16_weight,
    jit,
    naive,
    narrow,
    onednn,
    upcast_blocks,
)
from kernels.linear.ggml import jit as ggml_jit
from kernels.quantized import IntWeight, StackedWeight, Weight
from kernels.registry import HAS_TRITON, Registry, on_first_call

_FLOAT_BYTES = 4
_FLOATS = (torch.float32, torch.bfloat16, torch.float16)

REGISTRY = Registry[[torch.Tensor, torch.Tensor], torch.Tensor]("linear")
REGISTRY.add("dense", dense.linear, devices=("cpu", "cuda"), dtypes=_FLOATS)
REGISTRY.add("onednn", onednn.linear, devices=("cpu",), dtypes=(torch.float32,))
REGISTRY.add("naive", naive.linear, devices=("cpu", "cuda"), dtypes=(torch.float64,))

QUANTIZED = Registry[[torch.Tensor, IntWeight], torch.Tensor]("linear of quantised weights")
if HAS_TRITON:
    _by_triton = on_first_call("kernels.linear.triton", "linear")
    QUANTIZED.add("triton", _by_triton, devices=("cuda",), dtypes=_FLOATS)
QUANTIZED.add("jit", jit.linear, devices=("cpu",), dtypes=_FLOATS)
QUANTIZED.add("blocks", dequantize_blocks.linear, devices=("cpu", "cuda"), dtypes=_FLOATS)
QUANTIZED.add("naive", naive.linear, devices=("cpu", "cuda"), dtypes=(torch.float64,))

GGML = Registry[[torch.Tensor, GgmlWeight], torch.Tensor]("linear of GGML's blocks")
GGML.add("jit", ggml_jit.linear, devices=("cpu",), dtypes=_FLOATS)
GGML.add("blocks", dequantize_blocks.linear, devices=("cpu", "cuda"), dtypes=_FLOATS)
GGML.add("naive", naive.linear, devices=("cpu", "cuda"), dtypes=(torch.float64,))


def of_rows(x: torch.Tensor, weight: Weight, implementation: str | None = None) -> torch.Tensor:
    """x [M, I] with weight [O, I] of any kind: [M, O] in x's dtype."""
    if isinstance(weight, StackedWeight):
        return _of_stacked(x, weight, implementation)
    if isinstance(weight, GgmlWeight):
        return GGML.choose(x.device, x.dtype, implementation).function(x, weight)
    if not isinstance(weight, torch.Tensor):
        return QUANTIZED.choose(x.device, x.dtype, implementation).function(x, weight)
    if narrow.serves(x, weight):
        return narrow.linear(x, weight)
    if weight.dtype != x.dtype:
        return upcast_blocks.linear(x, weight)
    return REGISTRY.choose(x.device, x.dtype, implementation).function(x, weight)


def _of_stacked(x: torch.Tensor, weight: StackedWeight, name: str | None) -> torch.Tensor:
    """Every part into its columns of one result, x packed once for all parts of blocks."""
    if name is not None or x.dtype == torch.float64 or gradients.wanted(x):
        return torch.cat([of_rows(x, part, name) for part in weight.parts], dim=1)
    out = ggml_jit.stacked(x, weight, lambda part: of_rows(x, part))
    return out if out.dtype == x.dtype else out.to(x.dtype)


Matrix = Weight | fp16_weight.PackedWeight


def has_linear_calls(weight: Matrix) -> bool:
    """Whether `linear_calls` serves `weight`."""
    if isinstance(weight, StackedWeight):
        return all(map(has_linear_calls, weight.parts))
    if isinstance(weight, fp16_weight.PackedWeight):
        return True
    if isinstance(weight, torch.Tensor):
        return narrow.supports_weight(weight)
    if isinstance(weight, GgmlWeight):
        return ggml_jit.supports_weight(weight)
    return jit.supports_weight(weight)


def linear_calls(
    program: Program, x: Slot, weight: Matrix, out: Slot, out_width: int | None = None
) -> Iterator[Call]:
    """`kernels.linear` of a program's float32 rows [T, I] at `x` into `out` [T, O]; with
    `out_width` into columns of rows so wide."""
    out_width = out_width or weight.shape[0]
    if isinstance(weight, StackedWeight) and not ggml_jit.are_blocks(weight.parts):
        for part in weight.parts:
            yield from linear_calls(program, x, part, out, out_width)
            out += _FLOAT_BYTES * part.shape[0]
    elif isinstance(weight, GgmlWeight | StackedWeight):
        yield ggml_jit.linear_call(program, x, weight, out, out_width)
    elif isinstance(weight, torch.Tensor | fp16_weight.PackedWeight):
        rows = weight if isinstance(weight, torch.Tensor) else weight.fp16
        yield narrow.linear_call(x, rows, out, ROWS, out_width)
    else:
        yield jit.linear_call(x, weight, out, ROWS, out_width)
