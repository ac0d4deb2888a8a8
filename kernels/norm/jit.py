"""Norms of few tokens on CPUs by the JIT (jit_ir.py), one call instead of ten of torch's.

In decode a token takes a tenth of a microsecond, and each of torch's operations ten times as long
to begin. What the JIT does not support goes to plain.py.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from kernels.jit import run
from kernels.jit.program import Call, Value
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
    x = x.contiguous()
    out = torch.empty_like(x)
    num_rows = x.numel() // x.shape[-1]
    norm_call(x.data_ptr(), weight, eps, out.data_ptr(), num_rows, groups).run()
    return out


def norm_call(
    x: Value, weight: Tensor, eps: float, out: Value, num_rows: Value, groups: int = 1
) -> Call:
    """`rms_norm` of `num_rows` rows at `x`, into `out`."""
    from kernels.norm import jit_ir

    width = len(weight) // groups
    values = (x, None, weight.data_ptr(), None, out, num_rows, groups, width, 0.0, 0.0, eps)
    return Call(jit_ir.compiled(False), jit_ir.KernelArgs, values)


def _norm_of_sum(
    skip: Tensor, block: Tensor, alpha: float, beta: float, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    skip = skip.contiguous()
    total, out = torch.empty_like(skip), torch.empty_like(skip)
    rows = (skip.data_ptr(), block.data_ptr(), total.data_ptr())
    num_rows = skip.numel() // skip.shape[-1]
    norm_of_sum_call(*rows, (alpha, beta), weight, eps, out.data_ptr(), num_rows).run()
    return total, out


def norm_of_sum_call(
    skip: Value,
    block: Value,
    total: Value,
    residual: tuple[float, float],
    weight: Tensor,
    eps: float,
    out: Value,
    num_rows: Value,
) -> Call:
    """`rms_norm_of_sum` with alpha and beta, the sum into `total`."""
    from kernels.norm import jit_ir

    rows = (num_rows, 1, len(weight))
    values = (skip, block, weight.data_ptr(), total, out, *rows, *residual, eps)
    return Call(jit_ir.compiled(True), jit_ir.KernelArgs, values)


def sum_call(
    skip: Value,
    block: Value,
    total: Value,
    residual: tuple[float, float],
    width: int,
    num_rows: Value,
) -> Call:
    """As `norm_of_sum_call`, without the norm."""
    from kernels.norm import jit_ir

    values = (skip, block, None, total, None, num_rows, 1, width, *residual, 0.0)
    return Call(jit_ir.compiled_sum(), jit_ir.KernelArgs, values)
