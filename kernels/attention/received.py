"""How much attention each key gets, in tiles: the log-sum-exp of every query, then the weights."""

from collections.abc import Iterator

import torch
from torch import Tensor

from kernels.attention.int8 import Segments, dense

KEY_TILE = 4096


def attention_received(q: Tensor, segments: Segments, scale: float) -> Tensor:
    num_queries, num_heads, head_dim = q.shape
    num_keys = sum(keys.shape[0] for keys, _ in segments)
    if num_keys < num_queries:
        raise ValueError(f"attention: {num_queries} queries need as many keys, got {num_keys}")
    num_kv_heads = segments[0][0].shape[1]
    grouped = q.float().view(num_queries, num_kv_heads, -1, head_dim).permute(1, 2, 0, 3)
    rows = scale * grouped.reshape(num_kv_heads, -1, head_dim)  # [G, R T, D]
    per_group = num_heads // num_kv_heads

    total = torch.full((*rows.shape[:2], 1), -torch.inf, device=q.device)
    for _, scores in _tiles(rows, segments, num_queries, num_keys, per_group):
        total = torch.logaddexp(total, scores.logsumexp(dim=-1, keepdim=True))
    mass = torch.empty(num_keys, device=q.device)
    for first, scores in _tiles(rows, segments, num_queries, num_keys, per_group):
        mass[first : first + scores.shape[-1]] = (scores - total).exp().sum(dim=(0, 1))
    return mass


def _tiles(
    rows: Tensor, segments: Segments, num_queries: int, num_keys: int, per_group: int
) -> Iterator[tuple[int, Tensor]]:
    """The first key of each tile, and its scores [G, R T, n], minus infinity for the future."""
    query = torch.arange(num_keys - num_queries, num_keys, device=rows.device)[:, None]
    first = 0
    for keys, _ in segments:
        for start in range(0, keys.shape[0], KEY_TILE):
            tile = dense(keys[start : start + KEY_TILE], torch.float32).float().transpose(0, 1)
            scores = rows @ tile.mT
            key = torch.arange(first, first + tile.shape[1], device=rows.device)
            if first + tile.shape[1] > num_keys - num_queries + 1:
                scores = scores.masked_fill((key > query).repeat(per_group, 1), -torch.inf)
            yield first, scores
            first += tile.shape[1]
