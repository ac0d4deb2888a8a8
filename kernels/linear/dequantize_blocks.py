"""Matmuls with quantised weights in plain torch.

A block of outputs at a time is dequantised and multiplied, while it is in the cache:
memory beyond weight and result stays at one block. Sums are float32, as CPUs have no fast bf16.
"""

import torch
from torch import Tensor

from kernels.ggml import GgmlWeight
from kernels.linear import dense, int8_rows
from kernels.linear.dequantize_int4 import dequantize_int4
from kernels.quantized import Int4Weight, Int8Weight, IntWeight

_BLOCK_ELEMENTS = 2**20  # 4 MB of float32; measured on two AVX2 cores: 2**18 and 2**22 are slower
_SMALL_M = 8  # beyond it a block in float32 is faster than torch's int8 matmul


def linear(x: Tensor, weight: IntWeight | GgmlWeight) -> Tensor:
    if isinstance(weight, Int8Weight) and _has_fast_matmul(x):
        unit = torch.ones(len(weight.scales), dtype=x.dtype)  # the real scales are float32
        codes_product: Tensor = torch._weight_int8pack_mm(x.contiguous(), weight.codes, unit)
        return (codes_product * weight.scales).to(x.dtype)
    num_out, width = weight.shape
    has_int8_rows = isinstance(weight, GgmlWeight) and weight.has_int8_rows
    wide = int8_rows.rounded(x).float() if has_int8_rows else x.float()
    out = wide.new_empty(len(x), num_out)
    num_rows = max(1, min(_BLOCK_ELEMENTS // width, num_out))
    block = wide.new_empty(num_rows if isinstance(weight, Int4Weight) else 0, width)
    for start in range(0, num_out, num_rows):
        rows = slice(start, start + num_rows)
        if isinstance(weight, GgmlWeight):
            out[:, rows] = dense.large_m(wide, weight[rows].dequantize())
        elif isinstance(weight, Int8Weight):  # one scale per output: the result's
            product = dense.large_m(wide, weight.codes[rows].float())
            out[:, rows] = product.mul_(weight.scales[rows])
        else:
            out[:, rows] = dense.large_m(wide, dequantize_int4(weight[rows], block))
    return out.to(x.dtype)


def _has_fast_matmul(x: Tensor) -> bool:
    """At small M bf16 has torch's own matmul on a CPU; for float32 it is 15 times slower."""
    few_bf16 = x.device.type == "cpu" and x.dtype == torch.bfloat16 and len(x) <= _SMALL_M
    return few_bf16 and hasattr(torch, "_weight_int8pack_mm")
