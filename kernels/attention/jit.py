"""Attention of few queries over keys and values where they lie, on CPUs, by the JIT (jit_ir.py).

A matmul of small M is limited by reading the keys; PyTorch's fused kernel is made for many queries
and heads, takes several times as long, and is not batch-invariant.
"""

from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.attention.int8 import Int8Tensor, Rows
from kernels.jit import run
from kernels.jit.program import Call, Value

Piece = tuple[Rows, Rows]  # keys and values [n, G, D], both float32 or both int8
_LARGEST_HEAD = 256
MOST_KEYS = 4096  # of a tile
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
    num_queries, num_groups, per_group, head_dim = out.shape
    shape = (num_queries, num_groups, per_group, head_dim)
    places = (found.data_ptr(), out.data_ptr())
    for call in attention_calls(placed, *places, shape, most_keys, scale):
        call.run()
    return out


def part_elements(shape: Sequence[int], most_keys: int = MOST_KEYS) -> int:
    """Of the room that `attention_calls` need for rows of `shape` [T, G, R, D] and parts of at most
    so many keys."""
    from kernels.attention import jit_ir

    return prod(shape[:3]) * num_parts(most_keys) * (shape[3] + jit_ir.EXTRA)


def num_parts(most_keys: int = MOST_KEYS) -> int:
    """Those of one row that there is room for."""
    return 1 + chunks_of(min(most_keys, MOST_KEYS))


def chunks_of(num_keys: int) -> int:
    from kernels.attention import jit_ir

    return -(-num_keys // jit_ir.CHUNK)


class Tile(NamedTuple):
    """Keys and values [n, G, D], and the scales of int8 ones: where they are, and how far apart, in
    elements, tokens and heads of keys, of values and of either scales."""

    keys: Value
    values: Value
    key_scales: Value
    value_scales: Value
    strides: tuple[Value, ...]  # six


def addresses_of(keys: Rows, values: Rows) -> tuple[tuple[int, int, int, int], tuple[int, ...]]:
    """What a `Tile` has; zeros where there are no scales."""
    k, v, *scales = _parts_of(keys, values)
    strides = (*k.stride()[:2], *v.stride()[:2])
    if not scales:
        return (k.data_ptr(), v.data_ptr(), 0, 0), (*strides, 0, 0)
    places = (k.data_ptr(), v.data_ptr(), scales[0].data_ptr(), scales[1].data_ptr())
    return places, (*strides, *scales[0].stride())


class Parts(NamedTuple):
    """Of a row, those of a tile: how many, the number of the first, and of that behind the last."""

    num_chunks: Value
    first: Value
    end: Value


def attention_calls(
    parts: Iterable[tuple[int, Iterable[Piece], int]],
    found: int,
    out: int,
    shape: tuple[int, int, int, int],
    most_keys: int,
    scale: float,
) -> Iterator[Call]:
    """`joint_attention` of rows [T, G, R, D] where they lie together, one call after the other."""
    num_rows, room, first = prod(shape[:3]), num_parts(most_keys), 0
    for rows, pieces, all_keys in parts:
        seen = all_keys - shape[0] + 1
        for keys, values in _tiles(pieces):
            places, strides = addresses_of(keys, values)
            num_keys, count = keys.shape[0], chunks_of(keys.shape[0])
            yield from tile_calls(
                rows,
                Tile(*places, strides),
                shape,
                (num_keys, seen),
                Parts(count, first, first + count),
                (found, out, num_rows, room),
                scale,
                is_int8=isinstance(keys, Int8Tensor),
            )
            seen -= num_keys
            first = 1  # behind what all keys up to here are together


def tile_calls(
    rows: Value,
    tile: Tile,
    shape: tuple[Value, int, int, int],
    num_keys: tuple[Value, Value],
    parts: Parts,
    place: tuple[Value, Value, Value, int],
    scale: float,
    *,
    is_int8: bool,
) -> Iterator[Call]:
    """Attention of rows [T, G, R, D] over one more tile: how many keys it has, and how many of them
    the first row sees; where parts and result are, T G R, and for how many parts of a row there is
    room."""
    from kernels.attention import jit_ir

    found, out, num_rows, room = place
    head_dim, scales = shape[3], (tile.key_scales, tile.value_scales)
    addresses = (rows, tile.keys, tile.values, found, *scales)
    sizes = (*shape[:3], *num_keys)
    chunks = (parts.num_chunks, parts.first, room)
    values = (*addresses, *sizes, *tile.strides, *chunks, scale, 0)
    function = jit_ir.compiled_partial(head_dim, is_int8)
    yield Call(function, jit_ir.PartialArgs, values, is_parallel=True)
    together = (found, out, num_rows, parts.end, room)
    yield Call(jit_ir.compiled_full(head_dim), jit_ir.FullArgs, together)


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
        if keys.shape[0] <= MOST_KEYS:
            yield keys, values
            continue
        for start in range(0, keys.shape[0], MOST_KEYS):
            tile = slice(start, start + MOST_KEYS)
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
    places = (rows.data_ptr(), got.values.data_ptr(), got.scales.data_ptr())
    strides = (*got.values.stride()[:2], *got.scales.stride())
    quantize_call(*places, (3, 2, head_dim), strides).run()
    yield got.scales, want.scales, 0.0
    yield got.values, want.values, 0.0


def quantize_call(
    x: Value,
    values: Value,
    scales: Value,
    shape: tuple[Value, int, int],
    strides: tuple[Value, ...],
) -> Call:
    """`Int8Tensor.quantize` of rows of `shape` [T, G, D] at `x`; strides are of tokens and heads of
    the values, and of the scales."""
    from kernels.attention import jit_ir

    call_values = (x, values, scales, *shape[:2], *strides)
    return Call(jit_ir.compiled_quantize(shape[2]), jit_ir.QuantizeArgs, call_values)
