"""Attention of few queries over keys and values where they lie, on CPUs, by the JIT (jit_ir.py).

A matmul of small M is limited by reading the keys; PyTorch's fused kernel is made for many queries
and heads, takes several times as long, and is not batch-invariant.
"""

from collections.abc import Iterable, Iterator, Sequence
from math import prod

import torch
from torch import Tensor

from kernels.attention.int8 import Int8Tensor, Rows
from kernels.jit import run
from kernels.jit.program import Call

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
    out = torch.empty_like(parts[0][0], memory_format=torch.contiguous_format)
    most_keys = max(num_keys for _, _, num_keys in parts)
    found = out.new_empty(part_elements(out.shape, most_keys))
    rows = [one.contiguous() for one, _, _ in parts]
    placed = [(one.data_ptr(), pieces, n) for one, (_, pieces, n) in zip(rows, parts, strict=True)]
    for call in attention_calls(
        placed, found.data_ptr(), out.data_ptr(), out.shape, most_keys, scale
    ):
        call.run()
    return out


def part_elements(shape: Sequence[int], most_keys: int = _TILE_KEYS) -> int:
    """Of the room that `attention_calls` need for rows of `shape` [T, G, R, D] and parts of at most
    so many keys."""
    from kernels.attention import jit_ir

    return prod(shape[:3]) * _num_parts(most_keys) * (shape[3] + jit_ir.EXTRA)


def _num_parts(most_keys: int) -> int:
    """Those of one row that there is room for."""
    from kernels.attention import jit_ir

    return 1 + -(-min(most_keys, _TILE_KEYS) // jit_ir.CHUNK)


def attention_calls(
    parts: Iterable[tuple[int, Iterable[Piece], int]],
    found: int,
    out: int,
    shape: Sequence[int],
    most_keys: int,
    scale: float,
) -> Iterator[Call]:
    """`joint_attention` of rows [T, G, R, D] where they lie together, one call after the other."""
    from kernels.attention import jit_ir

    num_queries, num_groups, per_group, head_dim = shape
    num_rows, room = num_queries * num_groups * per_group, _num_parts(most_keys)
    full = jit_ir.compiled_full(head_dim)
    first_chunk = 0
    for rows, pieces, num_keys in parts:
        seen = num_keys - num_queries + 1
        for keys, values in _tiles(pieces):
            num_tile = keys.shape[0]
            num_chunks = -(-num_tile // jit_ir.CHUNK)
            k, v, *scales = _parts_of(keys, values)
            assert k.stride(2) == v.stride(2) == 1
            addresses = [one.data_ptr() for one in scales] or (None, None)
            sizes = (num_queries, num_groups, per_group, num_tile, seen)
            strides = (*k.stride()[:2], *v.stride()[:2])
            scale_strides = scales[0].stride() if scales else (0, 0)
            places = (rows, k.data_ptr(), v.data_ptr(), found, *addresses)
            chunks = (num_chunks, first_chunk, room)
            yield Call(
                jit_ir.compiled_partial(head_dim, bool(scales)),
                jit_ir.PartialArgs,
                (*places, *sizes, *strides, *scale_strides, *chunks, scale, 0),
                is_parallel=True,
            )
            together = (found, out, num_rows, first_chunk + num_chunks, room)
            yield Call(full, jit_ir.FullArgs, together)
            seen -= num_tile
            first_chunk = 1  # behind what all keys up to here are together


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


@run.probed
def quantizes(head_dim: int) -> Iterator[run.Check]:
    """Whether `quantize_call` rounds as `Int8Tensor.quantize` does."""
    rows = torch.randn(3, 2, head_dim, generator=torch.Generator().manual_seed(0))
    rows[0] *= 1e-37
    want = Int8Tensor.quantize(rows)
    got = Int8Tensor(torch.empty_like(want.values), torch.empty_like(want.scales))
    quantize_call(rows.data_ptr(), got).run()
    yield got.scales, want.scales, 0.0
    yield got.values, want.values, 0.0


def quantize_call(x: int, into: Int8Tensor) -> Call:
    """`Int8Tensor.quantize` of rows at `x`, as many as `into` has."""
    from kernels.attention import jit_ir

    values, scales = into.values, into.scales
    num_tokens, num_groups, head_dim = values.shape
    places, sizes = (x, values.data_ptr(), scales.data_ptr()), (num_tokens, num_groups)
    strides = (*values.stride()[:2], *scales.stride())
    call_values = (*places, *sizes, *strides)
    return Call(jit_ir.compiled_quantize(head_dim), jit_ir.QuantizeArgs, call_values)
