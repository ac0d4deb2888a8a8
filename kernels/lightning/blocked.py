"""Lightning Attention one block after another, while each is in the cache: for CPUs, no gradients.

The sums are those of chunked.py, which lays out every block of a chunk before it multiplies any:
on a CPU most of its time goes into writing and reading those. Here a block's queries, keys, values
and scores, and the state, of some heads at a time, fit into a core's cache.
"""

import torch
from torch import Tensor

from kernels.lightning import chunked

BLOCK_TOKENS = 64
_HEADS = 16  # at a time; measured with heads of 64 and 128


def lightning_attention(
    q: Tensor, k: Tensor, v: Tensor, slopes: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    if q.shape[0] <= chunked.FEW_TOKENS:
        return chunked.lightning_attention(q, k, v, slopes, state)
    out = q.new_empty(*q.shape[:2], v.shape[-1])
    after = state.to(torch.float32, copy=True)
    with torch.autocast(q.device.type, enabled=False):
        for first in range(0, q.shape[1], _HEADS):
            some = slice(first, first + _HEADS)
            own = q[:, some], k[:, some], v[:, some], out[:, some]
            _heads(*own, slopes[some].float(), after[some])
    return out, after


def _heads(q: Tensor, k: Tensor, v: Tensor, out: Tensor, slopes: Tensor, state: Tensor) -> None:
    """Fills `out` [T, h, E] and moves `state` [h, D, E] on."""
    size = min(BLOCK_TOKENS, q.shape[0])
    position = torch.arange(1, size + 1, dtype=torch.float32, device=q.device)  # [m]
    slopes = slopes[:, None, None]
    distance = position[:, None] - position[None, :]  # [m, m]
    within = torch.exp(-slopes * distance.clamp(min=0)).tril()  # [h, m, m]
    since_start = torch.exp(-slopes * position[:, None])  # [h, m, 1]
    for start in range(0, q.shape[0], size):
        block = slice(start, start + size)
        q_b, k_b, v_b = (_by_head(x[block]) for x in (q, k, v))
        count = v_b.shape[1]
        scores = torch.bmm(q_b, k_b.mT).mul_(within[:, :count, :count])
        out_b = torch.bmm(q_b.mul_(since_start[:, :count]), state).baddbmm_(scores, v_b)
        out[block] = out_b.transpose(0, 1)
        until_end = within[:, count - 1, :count, None]
        state.mul_(since_start[:, count - 1 : count])
        state.baddbmm_(k_b.mul_(until_end).mT, v_b)


def _by_head(x: Tensor) -> Tensor:
    """A copy [h, m, D] in float32 of x [m, h, D]."""
    by_head = x.transpose(0, 1)
    return x.new_empty(by_head.shape, dtype=torch.float32).copy_(by_head)
