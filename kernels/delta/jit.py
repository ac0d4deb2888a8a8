"""Few tokens of a gated delta layer on CPUs by the JIT (jit_ir.py); else chunked.py, plain.py."""

from collections.abc import Iterator

import torch
from torch import Tensor

from kernels import gradients
from kernels.delta import chunked, plain
from kernels.jit import run

_MOST_TAPS = 8  # a vector for each is held in registers


def gated_delta(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    arguments = (q, k, v, decay, beta, state)
    is_supported = _supports(*arguments) and is_usable()
    return (_recurrence if is_supported else chunked.gated_delta)(*arguments)


def short_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor, silu: bool
) -> tuple[Tensor, Tensor]:
    taps = weight.shape[1]
    others = (weight, state) if bias is None else (weight, state, bias)
    if run.supports(x, *others) and taps <= _MOST_TAPS and convolves(taps, bias is not None, silu):
        return _convolution(x, weight, bias, state, silu)
    return plain.short_convolution(x, weight, bias, state, silu)


def _supports(q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, state: Tensor) -> bool:
    return (
        0 < q.shape[0] <= chunked.FEW_TOKENS
        and all(x.is_cpu and x.dtype == torch.float32 for x in (q, k, v, decay, beta, state))
        and q.stride(2) == k.stride(2) == v.stride(2) == 1
        and state.is_contiguous()
        and not gradients.wanted(q, k, v, state)
    )


@run.probed
def is_usable() -> Iterator[run.Check]:
    generator = torch.Generator().manual_seed(0)
    q, k = 0.2 * torch.randn(2, 3, 2, 35, generator=generator)
    v = torch.randn(3, 4, 37, generator=generator)
    state = torch.randn(4, 35, 37, generator=generator)
    decay = torch.tensor([[-1e-3, -0.5, -9.0, -1000.0]]).repeat(3, 1)
    beta = torch.tensor([[0.0, 0.3, 0.7, 1.0]]).repeat(3, 1)
    arguments = (q, k, v, decay, beta, state)
    both = zip(_recurrence(*arguments), chunked.gated_delta(*arguments), strict=True)
    yield from ((got, want, 1e-5) for got, want in both)


@run.probed
def convolves(taps: int, has_bias: bool, silu: bool) -> Iterator[run.Check]:
    """Whether the convolution can be made, and is right."""
    generator = torch.Generator().manual_seed(taps)
    x, state = (torch.randn(n, 37, generator=generator) for n in (3, taps - 1))
    weight = torch.randn(37, taps, generator=generator)
    bias = torch.randn(37, generator=generator) if has_bias else None
    arguments = (x, weight, bias, state, silu)
    yield _convolution(*arguments)[0], plain.short_convolution(*arguments)[0], 1e-5


def _recurrence(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    from kernels.delta import jit_ir

    num_tokens, num_key_heads, width = q.shape
    num_heads = v.shape[1]
    decay, beta = decay.contiguous(), beta.contiguous()
    after, out = torch.empty_like(state), v.new_empty(v.shape)
    args = jit_ir.RecurrenceArgs(
        q.data_ptr(),
        k.data_ptr(),
        v.data_ptr(),
        decay.data_ptr(),
        beta.data_ptr(),
        state.data_ptr(),
        after.data_ptr(),
        out.data_ptr(),
        num_tokens,
        num_heads,
        num_heads // num_key_heads,
        width,
        v.shape[2],
        *q.stride()[:2],
        *k.stride()[:2],
        *v.stride()[:2],
        0,
    )
    run.run(jit_ir.recurrence(), args)
    return out, after


def _convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor, silu: bool
) -> tuple[Tensor, Tensor]:
    from kernels.delta import jit_ir

    rows = torch.cat([state, x])
    out = x.new_empty(x.shape)
    args = jit_ir.ConvolutionArgs(
        rows.data_ptr(),
        weight.data_ptr(),
        None if bias is None else bias.data_ptr(),
        out.data_ptr(),
        *x.shape,
    )
    address = jit_ir.convolution(weight.shape[1], bias is not None, silu)
    run.run(address, args, num_threads=1)
    return out, rows[len(x) :].clone()
