"""Softmax attention over chosen blocks of keys, for each KV head its own.

In float32 on a CPU each query reads a copy of just its blocks, which costs less than what
neighbours have no use of; elsewhere they go in tiles, which read the blocks that any of their
queries has, under a mask.
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
    if few_queries.supports(q[:1]):
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
    ranges = [list(_ranges(blocks, block_tokens, num_keys)) for blocks in chosen]
    counts = {sum(last - first for first, last in one) for one in ranges}
    if len(counts) == 1:
        piece = tuple(_gathered(segments, kind, ranges) for kind in range(2))
        return few_queries.attention(q, [(piece[0], piece[1])], scale, None, 0)
    outs = [
        _of_query(own, _of_group(segments, g), one[None], block_tokens, num_keys, scale)
        for g, (own, one) in enumerate(zip(q.chunk(len(chosen), dim=1), chosen, strict=True))
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
    ranges = list(_ranges(chosen.any(dim=0), block_tokens, end))
    own = _of_group(segments, group)
    keys, values = (
        dense(_gathered(own, kind, [ranges]), q.dtype).transpose(0, 1) for kind in range(2)
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


def _of_group(segments: Segments, group: int) -> Segments:
    return [(_heads(keys, group), _heads(values, group)) for keys, values in segments]


def _heads(rows: Rows, group: int) -> Rows:
    """[n, 1, D] of [n, G, D]."""
    own = slice(group, group + 1)
    if isinstance(rows, Int8Tensor):
        return Int8Tensor(rows.values[:, own], rows.scales[:, own])
    return rows[:, own]


def _gathered(segments: Segments, kind: int, ranges: list[list[tuple[int, int]]]) -> Rows:
    """Keys (kind 0) or values (1) [n, G, D], of each KV head at the positions of its `ranges`, as
    many for each."""
    rows = [pair[kind] for pair in segments]
    int8 = [one for one in rows if isinstance(one, Int8Tensor)]
    if int8:
        values = _copied([one.values for one in int8], ranges)
        return Int8Tensor(values, _copied([one.scales for one in int8], ranges))
    return _copied([one for one in rows if isinstance(one, Tensor)], ranges)


def _copied(segments: list[Tensor], ranges: list[list[tuple[int, int]]]) -> Tensor:
    """[n, G, ...], head-major in memory."""
    count = sum(last - first for first, last in ranges[0])
    shape = (len(ranges), count, *segments[0].shape[2:])
    out = torch.empty(shape, dtype=segments[0].dtype, device=segments[0].device)
    for group, own in enumerate(ranges):
        pieces = list(_pieces(segments, group, own))
        torch.cat(pieces, out=out[group])
    return out.transpose(0, 1)


def _pieces(segments: list[Tensor], group: int, ranges: list[tuple[int, int]]) -> Iterator[Tensor]:
    offset, index = 0, 0
    for first, last in ranges:
        while first < last:
            while first >= offset + len(segments[index]):
                offset, index = offset + len(segments[index]), index + 1
            end = min(last, offset + len(segments[index]))
            yield segments[index][first - offset : end - offset, group]
            first = end
