"""Lightning Attention in blocks: matmuls inside a block, the state between blocks.

For a block of m tokens, i, j = 1..m, slope s (arXiv 2401.04658, algorithm 1):
    O  = (Q e^(-s i)) S + ((Q K^T) [i >= j] e^(-s (i - j))) V
    S' = e^(-s m) S + (K e^(-s (m - j)))^T V
Every exponent is <= 0, so nothing overflows at any length. State and sums are float32; so are the
matmuls, except under autocast, which training on a GPU uses.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Attention = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
BLOCK_TOKENS = 128
FEW_TOKENS = 16  # up to which tokens are taken one by one: the bits are then those of decoding


def lightning_attention(
    q: Tensor, k: Tensor, v: Tensor, slopes: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    num_tokens, dtype = q.shape[0], q.dtype
    state, slopes = state.float(), slopes.float()
    if not torch.is_autocast_enabled(q.device.type):
        q, k, v = q.float(), k.float(), v.float()
    if num_tokens <= FEW_TOKENS:
        outputs = []
        for q_t, k_t, v_t in zip(q, k, v, strict=True):
            out, state = _one_token(q_t, k_t, v_t, slopes, state)
            outputs.append(out)
        return torch.stack(outputs).to(dtype), state
    full = num_tokens - num_tokens % BLOCK_TOKENS
    outputs = []
    for start, end, size in ((0, full, BLOCK_TOKENS), (full, num_tokens, num_tokens - full)):
        if start < end:
            out, state = _equal_blocks(
                q[start:end], k[start:end], v[start:end], slopes, state, size
            )
            outputs.append(out)
    return torch.cat(outputs).to(dtype), state


def lightning_state(
    k: Tensor,
    v: Tensor,
    slopes: Tensor,
    state: Tensor,
    num_tokens: Tensor,
    attention: Attention = lightning_attention,
) -> Tensor:
    """`attention` is the implementation whose bits the state has."""
    count = int(num_tokens)
    if not count:
        return state.float()
    return attention(k[:count], k[:count], v[:count], slopes, state)[1]


def _one_token(
    q: Tensor, k: Tensor, v: Tensor, slopes: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    state = torch.addcmul(torch.exp(-slopes)[:, None, None] * state, k[:, :, None], v[:, None, :])
    return (q[:, None, :] @ state)[:, 0], state


def _equal_blocks(
    q: Tensor, k: Tensor, v: Tensor, slopes: Tensor, state: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    num_heads = slopes.shape[0]
    position = torch.arange(1, size + 1, device=q.device, dtype=torch.float32)  # [m]
    distance = position[:, None] - position[None, :]  # [m, m]
    within = torch.exp(-slopes[:, None, None] * distance.clamp(min=0)).tril()  # [H, m, m]
    since_start = torch.exp(-slopes[:, None] * position)[:, :, None]  # [H, m, 1]
    until_end = torch.exp(-slopes[:, None] * (size - position))[:, :, None]  # [H, m, 1]
    whole_block = torch.exp(-slopes * size)[:, None, None]  # [H, 1, 1]

    def in_blocks(x: Tensor) -> Tensor:  # [T, H, D] -> [N, H, m, D]
        return x.view(-1, size, num_heads, x.shape[-1]).transpose(1, 2)

    q, k, v = in_blocks(q), in_blocks(k), in_blocks(v)
    added = (k * until_end).mT @ v  # [N, H, D, E]
    before = []
    for block_added in added:
        before.append(state)
        state = whole_block * state + block_added
    scores = q @ k.mT
    out = (scores * within.to(scores.dtype)) @ v + (q * since_start) @ torch.stack(before)
    return out.transpose(1, 2).reshape(-1, num_heads, v.shape[-1]), state
