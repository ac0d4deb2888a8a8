"""The definition: the whole score matrix, in float64."""

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from kernels.attention.block_choice import BlockRule
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


def choose_blocks(
    q: Tensor, sums: Sequence[Tensor], num_keys: int, scale: float, rule: BlockRule
) -> Tensor:
    """Query by query, window by window."""
    stride, size = rule.stride, rule.block_tokens
    every = torch.cat([one.double() for one in sums], dim=1)  # [G, n, D]
    num_groups, num_queries = len(every), len(q)
    chosen = torch.zeros((num_queries, num_groups, -(-num_keys // size)), dtype=torch.bool)
    grouped = q.double().view(num_queries, num_groups, -1, q.shape[-1])
    for at, group in product(range(num_queries), range(num_groups)):
        seen = num_keys - num_queries + at + 1  # keys, the query's own the last of them
        own, heads = (seen - 1) // size, scale * grouped[at, group]
        whole = every[group, : seen // stride] / stride
        fine, coarse = (heads @ _means(whole, *form).T for form in ((2, 1), (8, 4)))  # [R, n]
        p = (fine - coarse.logsumexp(-1, keepdim=True)).exp().sum(0).tolist()
        worth = [max(p[max(4 * b - 1, 0) : 4 * b + 4], default=-torch.inf) for b in range(own + 1)]
        for b in range(own + 1):
            if b < rule.num_first or b > own - rule.num_near:
                worth[b] = torch.inf
        best = sorted(range(own + 1), key=lambda b: -worth[b])[: rule.num_blocks]
        chosen[at, group, best] = True
    return chosen.to(q.device)


def _means(rows: Tensor, width: int, step: int) -> Tensor:
    """Of so many neighbouring rows, from every `step`-th on."""
    firsts = range(0, len(rows) - width + 1, step)
    return torch.stack([rows[first : first + width].mean(dim=0) for first in firsts])


def block_sparse_attention(
    q: Tensor, segments: Segments, chosen: Tensor, block_tokens: int, scale: float
) -> Tensor:
    scores = _scores(q, segments, scale, None, 0)  # [H, T, S]
    seen = chosen.repeat_interleave(block_tokens, dim=-1)[..., : scores.shape[-1]]  # [T, G, S]
    seen = seen.repeat_interleave(q.shape[1] // seen.shape[1], dim=1).transpose(0, 1)
    weights = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)
    values = torch.cat([dense(one, torch.float64).double() for _, one in segments])
    values = values.repeat_interleave(q.shape[1] // values.shape[1], dim=1)
    return torch.einsum("hts,shd->thd", weights, values)
