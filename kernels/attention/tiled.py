"""Softmax attention in tiles that are joined by their log-sum-exp (arXiv 2205.14135).

The keys fall into the history, which every query sees whole, and the last T, which each query
sees up to itself. Each part gives (out, log-sum-exp); joining parts is exact, so where the keys are
cut does not matter. On a CPU in float32 a part is PyTorch's fused kernel, else matmuls over tiles.
With a window, each tile of queries is one such part over the few keys it can see.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from kernels.attention import few_queries
from kernels.attention.int8 import Int8Tensor, Parts, Segments, dense

QUERY_TILE = 512
LEAST_WINDOW_TILE = 64
KEY_TILE = 1024
INT8_TILE = 4096  # so many quantised tokens are ever dense at once
MOST_PARTS = 4  # outputs held before they are joined: memory does not grow with the keys

Hidden = Callable[[int, int], Tensor]  # mask [T, n] of the keys start .. end a query may not see
Part = tuple[Tensor, Tensor]  # out [G, R, T, D], log-sum-exp [G, R, T]; R query heads per KV head


def attention(
    q: Tensor,
    segments: Segments,
    scale: float,
    window: int | None = None,
    sinks: int = 0,
) -> Tensor:
    if few_queries.supports(q):
        return few_queries.attention(q, segments, scale, window, sinks)
    return _by_query(_own_part(q, segments, scale, window, sinks)[0], q)


def joint_attention(parts: Parts, scale: float, window: int | None = None) -> Tensor:
    *whole, (own, segments) = parts
    if few_queries.supports(own):
        return few_queries.joint_attention(parts, scale, window)
    part = fused if can_fuse(own) else _by_matmuls
    found = [
        part(_grouped(q, one), _by_head(keys), _by_head(values), scale, False)
        for q, one in whole
        for keys, values in _cut(one, 0, sum(keys.shape[0] for keys, _ in one), q.dtype)
    ]
    return _by_query(_join([*found, _own_part(own, segments, scale, window, 0)])[0], own)


def _own_part(q: Tensor, segments: Segments, scale: float, window: int | None, sinks: int) -> Part:
    """Of the last T positions over all keys up to themselves."""
    num_queries = len(q)
    num_keys = sum(keys.shape[0] for keys, _ in segments)
    if num_keys < num_queries:
        raise ValueError(f"attention: {num_queries} queries need as many keys, got {num_keys}")
    grouped = _grouped(q, segments)
    if window is not None and window < num_keys:
        tiles = list(_windowed(grouped, segments, scale, num_keys, window, sinks))
        outs, lses = zip(*tiles, strict=True)
        return torch.cat(outs, dim=2), torch.cat(lses, dim=2)
    part = fused if can_fuse(q) else _by_matmuls

    # A single query sees every key whole, so nothing has to be cut off for it.
    history = num_keys - num_queries if num_queries > 1 else num_keys
    parts: list[Part] = []
    for keys, values in _cut(segments, 0, history, q.dtype):
        if len(parts) == MOST_PARTS:
            parts = [_join(parts)]
        parts.append(part(grouped, _by_head(keys), _by_head(values), scale, False))
    if recent := list(_cut(segments, history, num_keys, q.dtype)):
        keys = torch.cat([keys for keys, _ in recent]) if len(recent) > 1 else recent[0][0]
        values = torch.cat([values for _, values in recent]) if len(recent) > 1 else recent[0][1]
        parts.append(part(grouped, _by_head(keys), _by_head(values), scale, True))
    return _join(parts)


def _grouped(q: Tensor, segments: Segments) -> Tensor:
    num_queries, _, head_dim = q.shape
    grouped = q.view(num_queries, segments[0][0].shape[1], -1, head_dim)
    return grouped.permute(1, 2, 0, 3)  # [G, R, T, D]


def _by_query(out: Tensor, q: Tensor) -> Tensor:
    return out.permute(2, 0, 1, 3).reshape(q.shape).to(q.dtype)


def _windowed(
    grouped: Tensor,
    segments: Segments,
    scale: float,
    num_keys: int,
    window: int,
    sinks: int,
) -> Iterator[Part]:
    """The part of each tile of queries in order."""
    num_queries, device = grouped.shape[2], grouped.device
    history = num_keys - num_queries
    # A tile's first query sees what its last does not: half a window hides a third of all scores.
    step = min(max(window // 2, LEAST_WINDOW_TILE), QUERY_TILE)
    for first in range(0, num_queries, step):
        tile = grouped[:, :, first : first + step]
        end = history + first + tile.shape[2]
        lowest = max(history + first - window + 1, 0)
        pieces = [
            *_cut(segments, 0, min(sinks, lowest), grouped.dtype),
            *_cut(segments, lowest, end, grouped.dtype),
        ]
        keys = _by_head(torch.cat([keys for keys, _ in pieces]))
        values = _by_head(torch.cat([values for _, values in pieces]))
        key = torch.cat(
            [
                torch.arange(min(sinks, lowest), device=device),
                torch.arange(lowest, end, device=device),
            ]
        )
        query = torch.arange(history + first, end, device=device)[:, None]
        hidden = (key > query) | ((key <= query - window) & (key >= sinks))
        if can_fuse(grouped):
            yield fused(tile, keys, values, scale, False, hidden)
        else:
            columns = partial(_columns, hidden)
            yield query_tile(tile, keys, values, scale, keys.shape[1], columns)


def _columns(hidden: Tensor, start: int, end: int) -> Tensor:
    return hidden[:, start:end]


def _cut(
    segments: Segments, start: int, end: int, dtype: torch.dtype
) -> Iterator[tuple[Tensor, Tensor]]:
    """Keys and values start .. end: views, or where quantised tiles of INT8_TILE in `dtype`."""
    offset = 0
    for keys, values in segments:
        first, last = max(start - offset, 0), min(end - offset, keys.shape[0])
        quantised = isinstance(keys, Int8Tensor) or isinstance(values, Int8Tensor)
        step = INT8_TILE if quantised else max(last - first, 1)
        for tile in range(first, last, step):
            part = slice(tile, min(tile + step, last))
            yield dense(keys[part], dtype), dense(values[part], dtype)
        offset += keys.shape[0]


def _by_head(x: Tensor) -> Tensor:
    return x.transpose(0, 1)  # [n, G, D] -> [G, n, D]


def _join(parts: list[Part]) -> Part:
    if len(parts) == 1:
        return parts[0]
    total = torch.logsumexp(torch.stack([lse for _, lse in parts]), dim=0)
    out, lse = parts[0]
    joined = out.float() * torch.exp(lse - total)[..., None]
    for out, lse in parts[1:]:
        joined = joined + out.float() * torch.exp(lse - total)[..., None]
    return joined, total


def can_fuse(q: Tensor) -> bool:
    # The fused kernel's log-sum-exp has no gradient, so training takes the matmuls.
    grad = torch.is_grad_enabled() and q.requires_grad
    return q.device.type == "cpu" and q.dtype == torch.float32 and not grad


def fused(
    q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool, hidden: Tensor | None = None
) -> Part:
    if not causal and hidden is None:
        return _fused_rows(q, k, v, scale)
    per_group = (-1, q.shape[1], -1, -1)
    mask = None
    if hidden is not None:
        mask = torch.zeros(hidden.shape, dtype=q.dtype, device=q.device)
        mask = mask.masked_fill(hidden, -torch.inf)[None, None]
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q,
        k[:, None].expand(per_group),
        v[:, None].expand(per_group),
        0.0,
        causal,
        attn_mask=mask,
        scale=scale,
    )
    return out, lse


def _fused_rows(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Part:
    """As `fused` where every query sees every key: the heads of a group are rows of one matmul,
    so keys and values are read once for all of them."""
    num_groups, per_group, num_queries, head_dim = q.shape
    rows = q.reshape(num_groups, 1, per_group * num_queries, head_dim)
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        rows, k[:, None], v[:, None], 0.0, False, scale=scale
    )
    return out.view(q.shape), lse.view(num_groups, per_group, num_queries)


def _by_matmuls(q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool) -> Part:
    outs, lses = [], []
    for first in range(0, q.shape[2], QUERY_TILE):
        tile = q[:, :, first : first + QUERY_TILE]
        num_keys = min(k.shape[1], first + tile.shape[2]) if causal else k.shape[1]
        hidden = partial(_future, first, tile.shape[2], q.device) if causal else None
        out, lse = query_tile(tile, k, v, scale, num_keys, hidden)
        outs.append(out)
        lses.append(lse)
    return torch.cat(outs, dim=2), torch.cat(lses, dim=2)


def _future(first: int, num_queries: int, device: torch.device, start: int, end: int) -> Tensor:
    query = torch.arange(first, first + num_queries, device=device)[:, None]
    return torch.arange(start, end, device=device) > query


def query_tile(
    q: Tensor, k: Tensor, v: Tensor, scale: float, num_keys: int, hidden: Hidden | None
) -> Part:
    num_groups, per_group, num_queries, head_dim = q.shape
    rows = q.reshape(num_groups, per_group * num_queries, head_dim)
    out = torch.zeros(rows.shape, device=q.device, dtype=torch.float32)
    # Finite, so that a tile of which a query sees nothing adds exactly nothing.
    peak = torch.full((*rows.shape[:2], 1), torch.finfo(torch.float32).min, device=q.device)
    total = torch.zeros_like(peak)
    for start in range(0, num_keys, KEY_TILE):
        end = min(start + KEY_TILE, num_keys)
        scores = scale * (rows @ k[:, start:end].mT).float()  # [G, R*T, n]
        if hidden is not None:
            scores = scores.masked_fill(hidden(start, end).repeat(per_group, 1), -torch.inf)
        new_peak = torch.maximum(peak, scores.amax(dim=-1, keepdim=True))
        weights = torch.exp(scores - new_peak)
        shrink = torch.exp(peak - new_peak)
        total = total * shrink + weights.sum(dim=-1, keepdim=True)
        out = out * shrink + (weights.to(v.dtype) @ v[:, start:end]).float()
        peak = new_peak
    shape = (num_groups, per_group, num_queries)
    return (out / total).view(*shape, head_dim), (peak + total.log()).view(shape)
