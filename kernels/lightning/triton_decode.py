"""Lightning Attention of few tokens in Triton: the recurrence, with the state in registers.

Reads the state once, writes it once, and multiplies nothing but float32. For decoding and for the
verification of a few drafted tokens; for float32 and float16, for which bfloat16 products would
not do, it takes any number of tokens.

One compilation serves every number of tokens, and a token's rounding is fixed by hand where a
compiler could choose. So T tokens at once give the bits that T calls of one token give, and
`lightning_state` of the first n gives the bits of the state after them.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.compilation import Compilation

_BLOCK_VALUES = 32  # 64 heads x 128 channels make 256 programs, about two to a multiprocessor
_NUM_WARPS = 4


def lightning_attention(
    q: Tensor, k: Tensor, v: Tensor, slopes: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """q, k, v with dense channels; float32 slopes and state, contiguous."""
    (num_tokens, num_heads, key_dim), value_dim = q.shape, v.shape[-1]
    out = torch.empty(num_tokens, num_heads, value_dim, dtype=q.dtype, device=q.device)
    new_state = torch.empty_like(state)
    blocks = _blocks(key_dim, value_dim)
    steps[triton.cdiv(value_dim, blocks["BLOCK_E"]), num_heads](
        q, k, v, slopes, state, out, new_state, num_tokens,
        *q.stride()[:2], *k.stride()[:2], *v.stride()[:2],
        D=key_dim, E=value_dim, **blocks, num_warps=_NUM_WARPS,
    )  # fmt: skip
    return out, new_state


def lightning_state(
    k: Tensor, v: Tensor, slopes: Tensor, state: Tensor, num_tokens: Tensor
) -> Tensor:
    """`num_tokens` is one integer on the device of the others."""
    (_, num_heads, key_dim), value_dim = k.shape, v.shape[-1]
    new_state = torch.empty_like(state)
    blocks = _blocks(key_dim, value_dim)
    states[triton.cdiv(value_dim, blocks["BLOCK_E"]), num_heads](
        k, v, slopes, state, new_state, num_tokens, *k.stride()[:2], *v.stride()[:2],
        D=key_dim, E=value_dim, **blocks, num_warps=_NUM_WARPS,
    )  # fmt: skip
    return new_state


def _blocks(key_dim: int, value_dim: int) -> dict[str, int]:
    return {
        "BLOCK_D": triton.next_power_of_2(key_dim),
        "BLOCK_E": min(_BLOCK_VALUES, triton.next_power_of_2(value_dim)),
    }


@triton.jit(do_not_specialize=["num_tokens"])
def steps(
    q, k, v, slopes, state, out, new_state, num_tokens,
    q_token, q_head, k_token, k_head, v_token, v_head,
    D: tl.constexpr, E: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    tile, head = tl.program_id(0), tl.program_id(1).to(tl.int64)
    decay = tl.exp(-tl.load(slopes + head))
    d = tl.arange(0, BLOCK_D)
    e = tile * BLOCK_E + tl.arange(0, BLOCK_E)
    at = head * D * E + d[:, None] * E + e[None, :]
    inside = (d < D)[:, None] & (e < E)[None, :]
    S = tl.load(state + at, mask=inside, other=0.0)
    q += head * q_head + d
    k += head * k_head + d
    v += head * v_head + e
    out += head * E + e
    for _ in range(num_tokens):
        S = _step(S, k, v, decay, d < D, e < E)
        q_t = tl.load(q, mask=d < D, other=0.0).to(tl.float32)
        o_t = tl.sum(q_t[:, None] * S, axis=0)
        tl.store(out, o_t.to(out.dtype.element_ty), mask=e < E)
        q += q_token
        k += k_token
        v += v_token
        out += tl.num_programs(1) * E
    tl.store(new_state + at, S, mask=inside)


@triton.jit
def states(
    k, v, slopes, state, new_state, num_tokens, k_token, k_head, v_token, v_head,
    D: tl.constexpr, E: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    tile, head = tl.program_id(0), tl.program_id(1).to(tl.int64)
    decay = tl.exp(-tl.load(slopes + head))
    d = tl.arange(0, BLOCK_D)
    e = tile * BLOCK_E + tl.arange(0, BLOCK_E)
    at = head * D * E + d[:, None] * E + e[None, :]
    inside = (d < D)[:, None] & (e < E)[None, :]
    S = tl.load(state + at, mask=inside, other=0.0)
    k += head * k_head + d
    v += head * v_head + e
    for _ in range(tl.load(num_tokens).to(tl.int32)):
        S = _step(S, k, v, decay, d < D, e < E)
        k += k_token
        v += v_token
    tl.store(new_state + at, S, mask=inside)


@triton.jit
def _step(S, k, v, decay, in_keys, in_values):
    """S_t = e^(-s) S_(t-1) + k_t^T v_t, rounded after the first product and after the sum."""
    k_t = tl.load(k, mask=in_keys, other=0.0).to(tl.float32)
    v_t = tl.load(v, mask=in_values, other=0.0).to(tl.float32)
    return tl.fma(k_t[:, None], v_t[None, :], decay * S)


def _compilations(head_dim: int, dtype: str) -> tuple[Compilation, Compilation]:
    constants = {"D": head_dim, "E": head_dim} | _blocks(head_dim, head_dim)
    kinds = dict.fromkeys(("q", "k", "v", "out"), f"*{dtype}")
    kinds |= dict.fromkeys(("slopes", "state", "new_state"), "*fp32")
    kinds |= {f"{x}_{step}": "i32" for x in ("q", "k", "v") for step in ("token", "head")}
    kinds |= dict.fromkeys(constants, "constexpr")

    def compilation(kernel: Any, num_tokens: str) -> Compilation:
        signature = {name: (kinds | {"num_tokens": num_tokens})[name] for name in kernel.arg_names}
        return Compilation(
            name=f"lightning {kernel.__name__} {dtype} {head_dim}",
            kernel=kernel,
            signature=signature,
            constants=constants,
            num_warps=_NUM_WARPS,
            aligned=tuple(x for x in signature if x not in constants and x != "num_tokens"),
        )

    return compilation(steps, "i32"), compilation(states, "*i64")


COMPILATIONS = tuple(
    compilation
    for dtype in ("bf16", "fp16", "fp32")
    for head_dim in (128, 64)
    for compilation in _compilations(head_dim, dtype)
)
