"""Lightning Attention of few tokens on CPUs by the JIT (jit_ir.py), else by blocked.py."""

from collections.abc import Iterator

import torch
from torch import Tensor

from kernels import gradients
from kernels.jit import run
from kernels.lightning import blocked, chunked


def lightning_attention(
    q: Tensor, k: Tensor, v: Tensor, slopes: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    is_supported = _supports(q, k, v, slopes, state) and is_usable()
    return (_recurrence if is_supported else blocked.lightning_attention)(q, k, v, slopes, state)


def lightning_state(
    k: Tensor, v: Tensor, slopes: Tensor, state: Tensor, num_tokens: Tensor
) -> Tensor:
    return chunked.lightning_state(k, v, slopes, state, num_tokens, lightning_attention)


def _supports(q: Tensor, k: Tensor, v: Tensor, slopes: Tensor, state: Tensor) -> bool:
    return (
        0 < q.shape[0] <= chunked.FEW_TOKENS
        and all(x.is_cpu and x.dtype == torch.float32 for x in (q, k, v, slopes, state))
        and q.stride(2) == k.stride(2) == v.stride(2) == 1
        and slopes.is_contiguous()
        and state.is_contiguous()
        and not gradients.wanted(q, k, v, state)
    )


@run.probed
def is_usable() -> Iterator[run.Check]:
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 3, 2, 35, generator=generator)
    v = torch.randn(3, 2, 37, generator=generator)
    state = torch.randn(2, 35, 37, generator=generator)
    arguments = (q, k, v, torch.tensor([0.5, 1e-3]), state)
    both = zip(_recurrence(*arguments), chunked.lightning_attention(*arguments), strict=True)
    yield from ((got, want, 1e-5) for got, want in both)


def _recurrence(
    q: Tensor, k: Tensor, v: Tensor, slopes: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    from kernels.lightning import jit_ir

    num_tokens, num_heads, width = q.shape
    after = torch.empty_like(state)
    out = v.new_empty(v.shape)
    args = jit_ir.KernelArgs(
        q.data_ptr(),
        k.data_ptr(),
        v.data_ptr(),
        slopes.data_ptr(),
        state.data_ptr(),
        after.data_ptr(),
        out.data_ptr(),
        num_tokens,
        num_heads,
        width,
        v.shape[2],
        *q.stride()[:2],
        *k.stride()[:2],
        *v.stride()[:2],
        0,
    )
    run.run(jit_ir.compiled(), args)
    return out, after
