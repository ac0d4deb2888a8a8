"""The definition: the whole score matrix, in float64."""

import torch
from torch import Tensor

from kernels.attention.int8 import Parts, Segments, dense


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


def joint_attention(parts: Parts, scale: float, window: int | None = None) -> Tensor:
    *whole, (own, segments) = parts
    scores = [scale * _products(q, keys) for q, keys in whole]
    scores.append(_scores(own, segments, scale, window, 0))
    values = torch.cat(
        [dense(one, torch.float64).double() for _, part in parts for _, one in part]
    ).repeat_interleave(own.shape[1] // segments[0][1].shape[1], dim=1)  # [S, H, D]
    return torch.einsum("hts,shd->thd", torch.cat(scores, dim=-1).softmax(dim=-1), values)


def attention_received(q: Tensor, segments: Segments, scale: float) -> Tensor:
    return _weights(q, segments, scale, None, 0).sum(dim=(0, 1))


def block_logsumexp(
    rows: Tensor, keys: Tensor, scale: float, block_tokens: int, first: int
) -> Tensor:
    scores = scale * rows.double() @ keys.double().T
    found = [
        scores[:, max(start, first) : start + block_tokens].logsumexp(dim=-1)
        for start in range(0, len(keys), block_tokens)
    ]
    return torch.stack(found, dim=-1)


def _weights(q: Tensor, segments: Segments, scale: float, window: int | None, sinks: int) -> Tensor:
    """What each query gives each key [H, T, S]."""
    return _scores(q, segments, scale, window, sinks).softmax(dim=-1)


def _scores(q: Tensor, segments: Segments, scale: float, window: int | None, sinks: int) -> Tensor:
    """[H, T, S], minus infinity where a query does not see a key."""
    scores = scale * _products(q, segments)
    _, num_queries, num_keys = scores.shape
    query = torch.arange(num_keys - num_queries, num_keys, device=q.device)[:, None]
    key = torch.arange(num_keys, device=q.device)
    hidden = key > query
    if window is not None:
        hidden |= (key <= query - window) & (key >= sinks)
    return scores.masked_fill(hidden, -torch.inf)


def _products(q: Tensor, segments: Segments) -> Tensor:
    """[H, T, S]"""
    k = torch.cat([dense(keys, torch.float64).double() for keys, _ in segments])  # [S, G, D]
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)  # [S, H, D]
    return torch.einsum("thd,shd->hts", q.double(), k)
