"""The gated delta rule in blocks: matmuls inside a block, the state between blocks.

A token writes u_i = beta_i (v_i - k_i e^(g_i) S_(i-1)), so what it writes depends on what the
tokens before it wrote. For a block of m tokens these are a triangular system (the UT transform,
arXiv 2406.06484, section 3, with the decays of arXiv 2412.06464, section 3.3). With the decay
since the block's start b_i = g_1 + ... + g_i, i, j = 1..m:
    (I + beta_i [i > j] e^(b_i - b_j) K K^T) U = beta (V - e^(b_i) K S)
    O  = e^(b_i) Q S + ([i >= j] e^(b_i - b_j) Q K^T) U
    S' = e^(b_m) S + (e^(b_m - b_j) K)^T U
Every exponent is <= 0, so nothing overflows at any length. State and sums are float32; b is
float64, since after a token that forgets nearly everything small differences of it still count.

The blocks go one after another, so that a block's rows, scores and states of some heads stay in a
core's cache.
"""

from collections.abc import Callable

import torch
from torch import Tensor

BLOCK_TOKENS = 64
FEW_TOKENS = 16  # up to which tokens are taken one by one: the bits are then those of decoding
_LEAST_DECAY = -1000.0  # e to the power of it is 0 in float64, too
_KEY_HEADS = 16  # at a time

Rule = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def gated_delta(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    few = q.shape[0] <= FEW_TOKENS
    out = v.new_empty(v.shape, dtype=q.dtype)
    after = state.to(torch.float32, copy=True)
    ratio = v.shape[1] // k.shape[1]
    with torch.autocast(q.device.type, enabled=False):
        for first in range(0, k.shape[1], _KEY_HEADS):
            keys = slice(first, first + _KEY_HEADS)
            values = slice(first * ratio, (first + _KEY_HEADS) * ratio)
            own = q[:, keys], k[:, keys], v[:, values], decay[:, values], beta[:, values]
            (_by_token if few else _by_block)(*own, after[values], out[:, values])
    return out, after


def state_after(
    rule: Rule,
    k: Tensor,
    v: Tensor,
    decay: Tensor,
    beta: Tensor,
    state: Tensor,
    num_tokens: Tensor,
) -> Tensor:
    """What `rule`, an implementation of `gated_delta`, leaves of the first tokens."""
    count = int(num_tokens)
    if not count:
        return state.float()
    first = slice(count)
    return rule(k[first], k[first], v[first], decay[first], beta[first], state)[1]


def _by_token(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, state: Tensor, out: Tensor
) -> None:
    """Fills `out` [T, h, E] and moves `state` [h, D, E] on."""
    ratio = v.shape[1] // k.shape[1]
    q, k = (x.float().repeat_interleave(ratio, dim=1) for x in (q, k))
    kept, beta = decay.float().exp(), beta.float()
    for token in range(len(q)):
        state.mul_(kept[token, :, None, None])
        key = k[token, :, None, :]  # [h, 1, D]
        written = (v[token].float() - (key @ state)[:, 0]).mul_(beta[token, :, None])
        state.addcmul_(key.mT, written[:, None, :])
        out[token] = (q[token, :, None, :] @ state)[:, 0]


def _by_block(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, state: Tensor, out: Tensor
) -> None:
    """As `_by_token`."""
    groups, ratio = k.shape[1], v.shape[1] // k.shape[1]
    for start in range(0, q.shape[0], BLOCK_TOKENS):
        block = slice(start, start + BLOCK_TOKENS)
        m = len(q[block])
        v_b, beta_b = _by_head(v[block]), _by_head(beta[block, :, None])  # [h, m, E], [h, m, 1]
        since_start = decay[block].double().clamp(min=_LEAST_DECAY).cumsum(dim=0).T  # [h, m]
        between = since_start[:, :, None] - since_start[:, None, :]
        between = between.float().clamp_(max=0).exp_().tril_()  # [h, m, m]: e^(b_i - b_j)
        kept = since_start.float().exp()[:, :, None]

        k_b = _by_head(k[block])  # [g, m, D]
        both = torch.cat([_by_head(q[block]), k_b], dim=1)  # [g, 2m, D]
        with_keys = (both @ k_b.mT).repeat_interleave(ratio, dim=0)  # [h, 2m, m]
        # The value heads of a key head side by side: [g, D, r E].
        shared = state.view(groups, ratio, *state.shape[1:]).transpose(1, 2).flatten(2)
        with_state = both @ shared
        with_state = with_state.view(groups, 2 * m, ratio, -1).transpose(1, 2).flatten(0, 1)

        scores = with_keys[:, :m].mul_(between)
        system = with_keys[:, m:].mul_(between).mul_(beta_b)
        written = v_b.addcmul_(with_state[:, m:], kept, value=-1).mul_(beta_b)
        written = torch.linalg.solve_triangular(system, written, upper=False, unitriangular=True)
        out_b = torch.baddbmm(with_state[:, :m].mul_(kept), scores, written)
        out[block] = out_b.transpose(0, 1)
        until_end = between[:, m - 1, :, None]
        state.mul_(kept[:, m - 1 :])
        state.baddbmm_((k_b.repeat_interleave(ratio, dim=0) * until_end).mT, written)


def _by_head(x: Tensor) -> Tensor:
    """A copy [h, m, D] in float32 of x [m, h, D]."""
    by_head = x.transpose(0, 1)
    return x.new_empty(by_head.shape, dtype=torch.float32).copy_(by_head)
