"""The definition: the whole score matrix, in float64."""

import torch
from torch import Tensor

from kernels.attention.int8 import Segments, dense


def attention(
    q: Tensor,
    segments: Segments,
    scale: float,
    window: int | None = None,
    sinks: int = 0,
) -> Tensor:
    v = torch.cat([dense(values, torch.float64).double() for _, values in segments])
    v = v.repeat_interleave(q.shape[1] // v.shape[1], dim=1)  # [S, H, D]
    return torch.einsum("hts,shd->thd", _weights(q, segments, scale, window, sinks), v)


def attention_received(q: Tensor, segments: Segments, scale: float) -> Tensor:
    return _weights(q, segments, scale, None, 0).sum(dim=(0, 1))


def _weights(q: Tensor, segments: Segments, scale: float, window: int | None, sinks: int) -> Tensor:
    """What each query gives each key [H, T, S]."""
    k = torch.cat([dense(keys, torch.float64).double() for keys, _ in segments])  # [S, G, D]
    num_queries, num_heads, _ = q.shape
    num_keys, num_kv_heads, _ = k.shape
    k = k.repeat_interleave(num_heads // num_kv_heads, dim=1)  # [S, H, D]
    scores = scale * torch.einsum("thd,shd->hts", q.double(), k)
    query = torch.arange(num_keys - num_queries, num_keys, device=q.device)[:, None]
    key = torch.arange(num_keys, device=q.device)
    hidden = key > query
    if window is not None:
        hidden |= (key <= query - window) & (key >= sinks)
    return scores.masked_fill(hidden, -torch.inf).softmax(dim=-1)
