"""Norms in one pass: a row is read once, and with a sum before it written twice."""

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels import gradients
from kernels.compilation import Compilation
from kernels.norm import plain


@triton.jit
def _rms_norm(
    x_ptr,  # [rows, groups, size]
    weight_ptr,  # [groups, size]
    out_ptr,  # [rows, groups, size]
    num_groups,
    size,
    eps,
    SIZE: tl.constexpr,  # the power of two from `size` on
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, SIZE)
    inside = columns < size
    x = tl.load(x_ptr + row * size + columns, mask=inside, other=0.0).to(tl.float32)
    weight = tl.load(weight_ptr + row % num_groups * size + columns, mask=inside, other=0.0)
    scale = 1 / tl.sqrt(tl.sum(x * x, axis=0) / size + eps)
    normed = x * scale * weight.to(tl.float32)
    tl.store(out_ptr + row * size + columns, normed.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _rms_norm_of_sum(
    skip_ptr,  # [rows, size]
    block_ptr,
    weight_ptr,  # [size]
    total_ptr,  # [rows, size]
    out_ptr,
    alpha,
    beta,
    size,
    eps,
    SIZE: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, SIZE)
    inside = columns < size
    skip = tl.load(skip_ptr + row * size + columns, mask=inside, other=0.0).to(tl.float32)
    block = tl.load(block_ptr + row * size + columns, mask=inside, other=0.0).to(tl.float32)
    total = (alpha * skip + beta * block).to(total_ptr.dtype.element_ty)
    tl.store(total_ptr + row * size + columns, total, mask=inside)
    x = total.to(tl.float32)  # what later layers see, so what they would norm
    weight = tl.load(weight_ptr + columns, mask=inside, other=0.0).to(tl.float32)
    scale = 1 / tl.sqrt(tl.sum(x * x, axis=0) / size + eps)
    normed = x * scale * weight
    tl.store(out_ptr + row * size + columns, normed.to(out_ptr.dtype.element_ty), mask=inside)


def _num_warps(size: int) -> int:
    """About 16 elements of a row to a thread."""
    num_warps: int = min(16, max(1, triton.next_power_of_2(size) // 512))
    return num_warps


def rms_norm(x: Tensor, weight: Tensor, eps: float, groups: int) -> Tensor:
    if gradients.wanted(x, weight):
        return plain.rms_norm(x, weight, eps, groups)
    size = x.shape[-1] // groups
    x = x.contiguous()
    out = torch.empty_like(x)
    _rms_norm[(x.numel() // size,)](
        x,
        weight.contiguous(),
        out,
        groups,
        size,
        eps,
        SIZE=triton.next_power_of_2(size),
        num_warps=_num_warps(size),
    )
    return out


def rms_norm_of_sum(
    skip: Tensor, block: Tensor, alpha: float, beta: float, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    if gradients.wanted(skip, block, weight):
        return plain.rms_norm_of_sum(skip, block, alpha, beta, weight, eps)
    size = skip.shape[-1]
    skip, block = skip.contiguous(), block.contiguous()
    total, out = torch.empty_like(skip), torch.empty_like(skip)
    _rms_norm_of_sum[(skip.numel() // size,)](
        skip,
        block,
        weight.contiguous(),
        total,
        out,
        alpha,
        beta,
        size,
        eps,
        SIZE=triton.next_power_of_2(size),
        num_warps=_num_warps(size),
    )
    return total, out


def _compilations() -> Iterator[Compilation]:
    for dtype in ("fp32", "fp16", "bf16"):
        for size in (128, 2048, 6144, 8192):  # heads, groups and widths of the models served
            yield _compilation(f"norm {size} {dtype}", _rms_norm, size, dtype)
        for size in (2048, 6144):
            yield _compilation(f"norm of sum {size} {dtype}", _rms_norm_of_sum, size, dtype)


def _compilation(name: str, kernel: Any, size: int, dtype: str) -> Compilation:
    scalars = {"num_groups": "i32", "size": "i32", "SIZE": "constexpr"}
    signature = {
        argument: f"*{dtype}" if argument.endswith("_ptr") else scalars.get(argument, "fp32")
        for argument in kernel.arg_names
    }
    return Compilation(
        name,
        kernel,
        signature,
        {"SIZE": triton.next_power_of_2(size)},
        _num_warps(size),
        aligned=(*(argument for argument in signature if argument.endswith("_ptr")), "size"),
    )


COMPILATIONS = list(_compilations())
