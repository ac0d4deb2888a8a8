"""Softmax attention over chosen blocks of keys, for each KV head its own.

A few queries on a CPU read, each, a copy of just their blocks; many go in tiles, which read the
blocks that any of their queries has, under a mask.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from kernels.attention import few_queries, tiled
from kernels.attention.int8 import Int8Tensor, Rows, Segments, dense

QUERY_TILE = 16


def attention(
    q: Tensor, segments: Segments, chosen: Tensor, block_tokens: int, scale: float
) -> Tensor:
    num_queries, num_groups = chosen.shape[:2]
    num_keys = sum(keys.shape[0] for keys, _ in segments)
    if num_keys < num_queries:
        raise ValueError(f"attention: {num_queries} queries need as many keys, got {num_keys}")
    if few_queries.supports(q):
        first = num_keys - num_queries
        outs = [
            _of_query(q[at : at + 1], segments, chosen[at], block_tokens, first + at + 1, scale)
            for at in range(num_queries)
        ]
        return torch.cat(outs)
    grouped = q.view(num_queries, num_groups, -1, q.shape[-1]).permute(1, 2, 0, 3)
    tiles = [
        torch.cat(
            [
                _of_tile(
                    grouped[group : group + 1, :, start : start + QUERY_TILE],
                    segments,
                    chosen[start : start + QUERY_TILE, group],
                    (group, num_keys - num_queries + start),
                    block_tokens,
                    scale,
                )
                for group in range(num_groups)
            ]
        )
        for start in range(0, num_queries, QUERY_TILE)
    ]
    return torch.cat(tiles, dim=2).permute(2, 0, 1, 3).reshape(q.shape).to(q.dtype)


def _of_query(
    q: Tensor, segments: Segments, chosen: Tensor, block_tokens: int, num_keys: int, scale: float
) -> Tensor:
    """Of one query, the last of `num_keys` positions; `chosen` [G, N]."""
    heads = len(q[0]) // len(chosen)
    pieces = []
    for group, blocks in enumerate(chosen):
        ranges = list(_ranges(blocks, block_tokens, num_keys))
        keys, values = (_gathered(segments, kind, group, ranges) for kind in range(2))
        pieces.append((keys, values))
    if len({keys.shape[0] for keys, _ in pieces}) == 1:
        keys, values = (_side_by_side([piece[kind] for piece in pieces]) for kind in range(2))
        return few_queries.attention(q, [(keys, values)], scale, None, 0)
    outs = [
        few_queries.attention(q[:, group * heads : (group + 1) * heads], [piece], scale, None, 0)
        for group, piece in enumerate(pieces)
    ]
    return torch.cat(outs, dim=1)


def _of_tile(
    q: Tensor,
    segments: Segments,
    chosen: Tensor,
    at: tuple[int, int],
    block_tokens: int,
    scale: float,
) -> Tensor:
    """q [1, R, T, D] of the KV head and first position `at`; `chosen` [T, N]."""
    group, first = at
    end, device = first + q.shape[2], q.device
    any_of = chosen.any(dim=0)
    ranges = list(_ranges(any_of, block_tokens, end))
    keys, values = (
        dense(_gathered(segments, kind, group, ranges), q.dtype).transpose(0, 1)
        for kind in range(2)
    )
    place = torch.cat([torch.arange(*one, device=device) for one in ranges])
    query = torch.arange(first, end, device=device)[:, None]
    hidden = (place > query) | ~chosen[:, place // block_tokens]
    if tiled.can_fuse(q):
        return tiled.fused(q, keys, values, scale, False, hidden)[0]

    def columns(start: int, stop: int) -> Tensor:
        return hidden[:, start:stop]

    return tiled.query_tile(q, keys, values, scale, len(place), columns)[0]


def _ranges(blocks: Tensor, block_tokens: int, num_keys: int) -> Iterator[tuple[int, int]]:
    """The positions below `num_keys` that the blocks [N] cover, neighbours together."""
    first = last = 0
    for index in blocks.nonzero().flatten().tolist():
        if index * block_tokens >= num_keys:
            break
        if index * block_tokens != last:
            if first < last:
                yield first, last
            first = index * block_tokens
        last = min((index + 1) * block_tokens, num_keys)
    if first < last:
        yield first, last


def _gathered(segments: Segments, kind: int, group: int, ranges: list[tuple[int, int]]) -> Rows:
    """Keys (kind 0) or values (1) [n, 1, D] of one KV head, at the positions of `ranges`."""
    found: list[Rows] = []
    parts, offset = iter(segments), 0
    part = next(parts)[kind]
    own = slice(group, group + 1)
    for first, last in ranges:
        while first < last:
            while first >= offset + part.shape[0]:
                offset += part.shape[0]
                part = next(parts)[kind]
            end = min(last, offset + part.shape[0])
            rows = part[first - offset : end - offset]
            if isinstance(rows, Int8Tensor):
                found.append(Int8Tensor(rows.values[:, own], rows.scales[:, own]))
            else:
                found.append(rows[:, own])
            first = end
    return _joined(found, 0)


def _side_by_side(groups: list[Rows]) -> Rows:
    return _joined(groups, 1)


def _joined(pieces: list[Rows], dim: int) -> Rows:
    int8 = [one for one in pieces if isinstance(one, Int8Tensor)]
    if int8:
        values = torch.cat([one.values for one in int8], dim=dim)
        return Int8Tensor(values, torch.cat([one.scales for one in int8], dim=dim))
    return torch.cat([one for one in pieces if isinstance(one, Tensor)], dim=dim)
