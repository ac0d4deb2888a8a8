"""Attention of a few queries over all keys, each query as if it were alone, bit by bit.

By the JIT where it is usable (jit.py), else by PyTorch's kernel. Then the keys a query
sees are cut at a multiple of 64 positions. Before the cut it shares one matmul with the queries
beside it, so that reading a few tokens at once reads the keys once; behind it every query has a
matmul of its own, as each sees one key more. Where the cut is depends on the query's position
alone, and whether sharing changes a row's bits is probed, so that reading tokens at once leaves
what reading them one by one leaves.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.attention import jit
from kernels.attention.int8 import Int8Tensor, Parts, Rows, Segments, between, dense

FEW_QUERIES = 16
_CUT = 64
_INT8_TILE = 4096  # so many quantised tokens are ever dense at once
_ROW_TILE = 4  # MKL rounds the rows of other heights in another way

Part = tuple[Tensor, Tensor]  # out [G, M, D], log-sum-exp [G, M] of M rows per KV head


def supports(q: Tensor) -> bool:
    """A few float32 queries on a CPU that want no gradient: PyTorch's fused kernel has none."""
    grad = torch.is_grad_enabled() and q.requires_grad
    return (
        len(q) <= FEW_QUERIES and q.device.type == "cpu" and q.dtype == torch.float32 and not grad
    )


def attention(
    q: Tensor, segments: Segments, scale: float, window: int | None, sinks: int
) -> Tensor:
    num_queries, _, head_dim = q.shape
    num_keys = sum(keys.shape[0] for keys, _ in segments)
    if num_keys < num_queries:
        raise ValueError(f"attention: {num_queries} queries need as many keys, got {num_keys}")
    rows = q.view(num_queries, segments[0][0].shape[1], -1, head_dim)  # [T, G, R, D]
    history, outs = num_keys - num_queries, []
    if window is None and jit.is_usable(head_dim):
        # int8 keys are read as they are, or a tile of them made dense.
        as_it_is = all(jit.supports(keys, values) for keys, values in segments)
        pieces = segments if as_it_is else _segments_between(segments, 0, num_keys)
        return jit.attention(rows, pieces, num_keys, scale).view(q.shape)
    if window is not None:  # also where all are in it: so cut, as they are once more came
        for at in range(num_queries):
            seen = history + at + 1
            outs.append(_windowed(rows[at], segments, scale, seen, window, sinks))
    else:
        at = 0
        while at < num_queries:
            cut = (history + at + 1) // _CUT * _CUT
            end = min(num_queries, cut + _CUT - history - 1)
            outs += _cut_at(cut, rows[at:end], segments, scale, history + at + 1)
            at = end
    return torch.stack(outs).view(q.shape)


def joint_attention(parts: Parts, scale: float, window: int | None = None) -> Tensor:
    """Each query as if it were alone, as above; `kernels.joint_attention`."""
    *whole, (own, segments) = parts
    num_queries, _, head_dim = own.shape
    num_keys = _count(segments)
    if num_keys < num_queries:
        raise ValueError(f"attention: {num_queries} queries need as many keys, got {num_keys}")
    by_jit = jit.is_usable(head_dim)
    as_it_is = by_jit and all(jit.supports(k, v) for _, one in parts for k, v in one)
    cut: Callable[[Segments, int, int], Iterable[tuple[Rows, Rows]]]
    cut = between if as_it_is else _segments_between
    seen_whole = [(q, [*cut(one, 0, _count(one))]) for q, one in whole]
    shape, outs = (segments[0][0].shape[1], -1, head_dim), []
    for at in range(num_queries):
        seen = num_keys - num_queries + at + 1
        lowest = 0 if window is None else max(seen - window, 0)
        near = [*cut(segments, lowest, seen)]
        pieces = [(q[at].view(shape), one) for q, one in (*seen_whole, (own, near))]
        if by_jit:
            rows = [(q[None], one, _count(one)) for q, one in pieces]
            outs.append(jit.joint_attention(rows, scale)[0])
        else:
            found = [
                _part(q, dense(keys, torch.float32), dense(values, torch.float32), scale)
                for q, one in pieces
                for keys, values in one
            ]
            outs.append(_merge_lse(found))
    return torch.stack(outs).view(own.shape)


def _count(segments: Segments) -> int:
    return sum(keys.shape[0] for keys, _ in segments)


def _cut_at(
    cut: int, rows: Tensor, segments: Segments, scale: float, num_keys: int
) -> Iterator[Tensor]:
    """[G, R, D] of each of `rows` [T, G, R, D]; the first sees `num_keys`, each other one more."""
    parts = [
        _shared(rows, keys, values, scale) for keys, values in _segments_between(segments, 0, cut)
    ]
    per_group = rows.shape[2]
    for at, row in enumerate(rows):
        own = slice(at * per_group, (at + 1) * per_group)
        mine = [(out[:, own], lse[:, own]) for out, lse in parts]
        for keys, values in _segments_between(segments, cut, num_keys + at):
            mine.append(_part(row, keys, values, scale))
        yield _merge_lse(mine)


def _shared(rows: Tensor, keys: Tensor, values: Tensor, scale: float) -> Part:
    num_rows, num_groups, per_group, head_dim = rows.shape
    if num_rows == 1:
        return _part(rows[0], keys, values, scale)
    if not _can_share(head_dim):
        alone = [_part(row, keys, values, scale) for row in rows]
        return torch.cat([out for out, _ in alone], 1), torch.cat([lse for _, lse in alone], 1)
    together = rows.transpose(0, 1).reshape(num_groups, num_rows * per_group, head_dim)
    return _part(together, keys, values, scale)


@lru_cache(maxsize=8)
def _can_share(head_dim: int) -> bool:
    """Whether a row's bits are the same beside others."""
    generator = torch.Generator().manual_seed(0)
    keys, values = torch.randn(2, 4096, 1, head_dim, generator=generator)
    rows = torch.randn(1, 12 * _ROW_TILE, head_dim, generator=generator)
    for count in (_CUT, 9 * _CUT, len(keys)):
        out, lse = _part(rows, keys[:count], values[:count], 1.0)
        for few in (1, 3, _ROW_TILE, 2 * _ROW_TILE + 1):
            few_out, few_lse = _part(rows[:, :few], keys[:count], values[:count], 1.0)
            same = torch.equal(few_out, out[:, :few]) and torch.equal(few_lse, lse[:, :few])
            if not same:
                return False
    return True


def _windowed(
    row: Tensor, segments: Segments, scale: float, num_keys: int, window: int, sinks: int
) -> Tensor:
    lowest = max(num_keys - window, 0)
    pieces = [
        *_segments_between(segments, 0, min(sinks, lowest)),
        *_segments_between(segments, lowest, num_keys),
    ]
    keys, values = (torch.cat(tensors) for tensors in zip(*pieces, strict=True))
    if jit.is_usable(row.shape[-1]):
        return jit.attention(row[None], [(keys, values)], len(keys), scale)[0]
    return _part(row, keys, values, scale)[0]


def _segments_between(segments: Segments, start: int, end: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Keys and values start .. end, cut where the segments are, and dense."""
    for keys, values in between(segments, start, end):
        quantised = isinstance(keys, Int8Tensor) or isinstance(values, Int8Tensor)
        step = _INT8_TILE if quantised else keys.shape[0]
        for tile in range(0, keys.shape[0], step):
            part = slice(tile, tile + step)
            yield dense(keys[part], torch.float32), dense(values[part], torch.float32)


def _part(rows: Tensor, keys: Tensor, values: Tensor, scale: float) -> Part:
    """`rows` [G, M, D], padded to a whole number of tiles; the heads of a group share its keys."""
    num_rows = rows.shape[1]
    if missing := -num_rows % _ROW_TILE:
        rows = F.pad(rows, (0, 0, 0, missing))
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        rows[:, None],
        keys.transpose(0, 1)[:, None],
        values.transpose(0, 1)[:, None],
        0.0,
        False,
        scale=scale,
    )
    return out[:, 0, :num_rows], lse[:, 0, :num_rows]


def _merge_lse(parts: list[Part]) -> Tensor:
    if len(parts) == 1:
        return parts[0][0]
    shares = torch.stack([lse for _, lse in parts]).softmax(dim=0)
    return (torch.stack([out for out, _ in parts]) * shares[..., None]).sum(dim=0)
