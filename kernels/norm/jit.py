"""Norms of few tokens on CPUs by the JIT (jit_ir.py), one call instead of ten of torch's.

In decode a token takes a tenth of a microsecond, and each of torch's operations ten times as long
to begin. What the JIT does not support goes to plain.py.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from kernels.jit import run
from kernels.norm import plain


def rms_norm(x: Tensor, weight: Tensor, eps: float, groups: int) -> Tensor:
    if not (run.supports(x, weight) and is_usable()):
        return plain.rms_norm(x, weight, eps, groups)
    return _norm(x, weight, eps, groups)


def rms_norm_of_sum(
    skip: Tensor, block: Tensor, alpha: float, beta: float, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    if not (run.supports(skip, block, weight) and skip.shape == block.shape and is_usable()):
        return plain.rms_norm_of_sum(skip, block, alpha, beta, weight, eps)
    return _norm_of_sum(skip, block, alpha, beta, weight, eps)


@run.probed
def is_usable() -> Iterator[run.Check]:
    generator = torch.Generator().manual_seed(0)
    x, block, weight = torch.randn(3, 3, 74, generator=generator)
    arguments = (x, block, 0.5, 2.0, weight[0], 1e-3)
    yield _norm(x, weight[0], 1e-3, 2), plain.rms_norm(x, weight[0], 1e-3, 2), 1e-6
    of_sum = zip(_norm_of_sum(*arguments), plain.rms_norm_of_sum(*arguments), strict=True)
    yield from ((got, want, 1e-6) for got, want in of_sum)


def _norm(x: Tensor, weight: Tensor, eps: float, groups: int) -> Tensor:
    from kernels.norm import jit_ir

    x = x.contiguous()
    out = torch.empty_like(x)
    width = x.shape[-1]
    args = jit_ir.KernelArgs(
        x.data_ptr(),
        None,
        weight.data_ptr(),
        None,
        out.data_ptr(),
        x.numel() // width,
        groups,
        width // groups,
        0.0,
        0.0,
        eps,
    )
    run.run(jit_ir.compiled(False), args, num_threads=1)
    return out


def _norm_of_sum(
    skip: Tensor, block: Tensor, alpha: float, beta: float, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    from kernels.norm import jit_ir

    skip = skip.contiguous()
    total, out = torch.empty_like(skip), torch.empty_like(skip)
    width = skip.shape[-1]
    args = jit_ir.KernelArgs(
        skip.data_ptr(),
        block.data_ptr(),
        weight.data_ptr(),
        total.data_ptr(),
        out.data_ptr(),
        skip.numel() // width,
        1,
        width,
        alpha,
        beta,
        eps,
    )
    run.run(jit_ir.compiled(True), args, num_threads=1)
    return total, out
