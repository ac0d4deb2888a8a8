"""Attention of few queries over keys and values where they lie, on CPUs, by the JIT (jit_ir.py).

A matmul of small M is limited by reading the keys; PyTorch's fused kernel is made for many queries
and heads, takes several times as long, and is not batch-invariant.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from kernels.attention.int8 import Int8Tensor, Rows
from kernels.jit import run

Piece = tuple[Rows, Rows]  # keys and values [n, G, D], both float32 or both int8
_LARGEST_HEAD = 256
_TILE_KEYS = 4096
_VECTOR = 16


def attention(rows: Tensor, pieces: Iterable[Piece], num_keys: int, scale: float) -> Tensor:
    """rows [T, G, R, D] over the `num_keys` of `pieces` in order; the last row sees all of them,
    each before it one less. Returns as many rows. A piece is done with when the next is taken."""
    return joint_attention([(rows, pieces, num_keys)], scale)


def joint_attention(parts: Sequence[tuple[Tensor, Iterable[Piece], int]], scale: float) -> Tensor:
    """As `attention`, over the keys of all parts together, each with rows and a number of keys of
    its own."""
    from kernels.attention import jit_ir

    out = torch.empty_like(parts[0][0], memory_format=torch.contiguous_format)
    num_queries, num_groups, per_group, head_dim = out.shape
    num_rows = out.shape[:3].numel()
    most_keys = max(num_keys for _, _, num_keys in parts)
    room = 1 + -(-min(most_keys, _TILE_KEYS) // jit_ir.CHUNK)
    found = out.new_empty(num_rows, room, head_dim + jit_ir.EXTRA)
    first_chunk = 0
    for rows, pieces, num_keys in parts:
        rows = rows.contiguous()
        seen = num_keys - num_queries + 1
        for keys, values in _tiles(pieces):
            num_tile = keys.shape[0]
            num_chunks = -(-num_tile // jit_ir.CHUNK)
            k, v, *scales = _parts_of(keys, values)
            assert k.stride(2) == v.stride(2) == 1
            args = jit_ir.PartialArgs(
                rows.data_ptr(),
                k.data_ptr(),
                v.data_ptr(),
                found.data_ptr(),
                *([one.data_ptr() for one in scales] or (None, None)),
                num_queries,
                num_groups,
                per_group,
                num_tile,
                seen,
                *k.stride()[:2],
                *v.stride()[:2],
                *(scales[0].stride() if scales else (0, 0)),
                num_chunks,
                first_chunk,
                room,
                scale,
                0,
            )
            run.run(jit_ir.compiled_partial(head_dim, bool(scales)), args)
            num_parts = first_chunk + num_chunks
            merge = jit_ir.FullArgs(found.data_ptr(), out.data_ptr(), num_rows, num_parts, room)
            run.run(jit_ir.compiled_full(head_dim), merge, num_threads=1)
            seen -= num_tile
            first_chunk = 1  # behind what all keys up to here are together
    return out


def supports(keys: Rows, values: Rows) -> bool:
    """Whether a piece can be read where it lies."""
    if isinstance(keys, Int8Tensor) and isinstance(values, Int8Tensor):
        return keys.scales.stride() == values.scales.stride()
    return isinstance(keys, Tensor) and isinstance(values, Tensor) and keys.dtype == torch.float32


def _parts_of(keys: Rows, values: Rows) -> tuple[Tensor, ...]:
    """Keys and values, and of int8 ones the scales, too."""
    if isinstance(keys, Int8Tensor) and isinstance(values, Int8Tensor):
        return keys.values, values.values, keys.scales, values.scales
    assert isinstance(keys, Tensor) and isinstance(values, Tensor)
    return keys, values


def _tiles(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Parts are put together after so many keys, so that memory does not grow with their number."""
    for keys, values in pieces:
        if keys.shape[0] <= _TILE_KEYS:
            yield keys, values
            continue
        for start in range(0, keys.shape[0], _TILE_KEYS):
            tile = slice(start, start + _TILE_KEYS)
            yield keys[tile], values[tile]


@run.probed
def is_usable(head_dim: int) -> Iterator[run.Check]:
    """For heads of this size, and whether each query has the bits it has alone."""
    if head_dim % _VECTOR or head_dim > _LARGEST_HEAD:
        raise RuntimeError(f"attention: no JIT for heads of {head_dim}")
    generator = torch.Generator().manual_seed(head_dim)
    q = torch.randn(3, 2, 3, head_dim, generator=generator)
    keys, values = torch.randn(2, 700, 2, head_dim, generator=generator)
    pieces = [(keys[:300], values[:300]), (keys[300:], values[300:])]
    scale = head_dim**-0.5
    scores = scale * torch.einsum("tgrd,ngd->tgrn", q.double(), keys.double())
    scores[0, :, :, -2:] = scores[1, :, :, -1:] = -torch.inf
    want = torch.einsum("tgrn,ngd->tgrd", scores.softmax(-1), values.double())
    got = attention(q, pieces, 700, scale)
    yield got, want, 1e-5
    yield attention(q[2:], pieces, 700, scale), got[2:], 0.0
    fewer = [*pieces[:1], (keys[300:-2], values[300:-2])]
    yield attention(q[:1], fewer, 698, scale), got[:1], 0.0
    int8 = Int8Tensor.quantize(keys), Int8Tensor.quantize(values)
    dense = int8[0].dequantize(), int8[1].dequantize()
    yield attention(q, [int8], 700, scale), attention(q, [dense], 700, scale), 0.0
