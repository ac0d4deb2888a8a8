"""PyTorch's scaled_dot_product_attention, with gradients: for training, on whole sequences.

A sequence without a window is one call of its fused causal kernel. With a window, or with queries
that follow other keys, each tile of queries is one call with a mask [t, n] over the keys it sees.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.attention.int8 import Segments, dense

QUERY_TILE = 512


def attention(
    q: Tensor,
    segments: Segments,
    scale: float,
    window: int | None = None,
    sinks: int = 0,
) -> Tensor:
    keys_in_order = [dense(keys, q.dtype) for keys, _ in segments]
    values_in_order = [dense(values, q.dtype) for _, values in segments]
    k = torch.cat(keys_in_order) if len(segments) > 1 else keys_in_order[0]
    v = torch.cat(values_in_order) if len(segments) > 1 else values_in_order[0]
    (num_queries, num_heads, head_dim), (num_keys, num_kv_heads, _) = q.shape, k.shape
    if num_keys < num_queries:
        raise ValueError(f"attention: {num_queries} queries need as many keys, got {num_keys}")
    grouped = q.view(num_queries, num_kv_heads, -1, head_dim).permute(1, 2, 0, 3)  # [G, R, T, D]
    shape = (num_kv_heads, grouped.shape[1], num_keys, head_dim)
    k, v = (x.transpose(0, 1)[:, None].expand(shape) for x in (k, v))
    if window is None or window >= num_keys:
        window, sinks = num_keys, 0
    if window == num_keys == num_queries:
        out = F.scaled_dot_product_attention(grouped, k, v, is_causal=True, scale=scale)
    else:
        history = num_keys - num_queries
        tiles = []
        for first in range(0, num_queries, QUERY_TILE):
            tile = grouped[:, :, first : first + QUERY_TILE]
            key = _keys(history + first, tile.shape[2], window, sinks, q.device)
            query = torch.arange(history + first, history + first + tile.shape[2], device=q.device)
            age = query[:, None] - key  # [t, n]
            seen = (age >= 0) & ((age < window) | (key < sinks))
            keys, values = (_rows(x, history + first, tile.shape[2], window, sinks) for x in (k, v))
            tiles.append(F.scaled_dot_product_attention(tile, keys, values, seen, scale=scale))
        out = torch.cat(tiles, dim=2)
    return out.permute(2, 0, 1, 3).reshape(num_queries, num_heads, head_dim)


def _keys(start: int, num_queries: int, window: int, sinks: int, device: torch.device) -> Tensor:
    """The keys that any of the queries from `start` on sees: the sinks, then the window."""
    positions = torch.arange(start + num_queries, device=device)
    return _rows(positions[None, None], start, num_queries, window, sinks)[0, 0]


def _rows(x: Tensor, start: int, num_queries: int, window: int, sinks: int) -> Tensor:
    """Of x [G, R, n, ...] those keys, cut, as the gradient of a gather is slow."""
    lowest = max(start - window + 1, 0)
    recent = x[:, :, lowest : start + num_queries]
    return torch.cat([x[:, :, : min(sinks, lowest)], recent], dim=2) if lowest and sinks else recent
