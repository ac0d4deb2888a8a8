"""Softmax attention for GPUs: one pass over the keys, softmax in float32 on the way.

A program takes ROWS rows and one range of keys. The rows are (token, query head) pairs of one
key-value head, token after token, so one tile of keys serves every head of its group, and a tile
of rows spans few positions. The keys are read where they lie, through a `BlockTable`.

Where rows are few (decode, a short question) the keys are cut into a number of splits that depends
on nothing but the shapes: each split leaves its output and log-sum-exp in float32 and `_join`
adds them up in order, so equal calls give equal bits.

Scores are kept times log2(e), since exp2 is what the hardware has.
"""

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels import gradients
from kernels.attention import tiled
from kernels.attention.block_table import NUM_COLUMNS, BlockTable
from kernels.attention.int8 import Segments
from kernels.compilation import CAPABILITIES, Compilation

HEAD_DIMS = (64, 128)

COLUMNS = tl.constexpr(NUM_COLUMNS)
STARTS = tl.constexpr(256)  # segments looked at together when searching for a position
NOTHING = tl.constexpr(-3.0e38)  # below every score, and finite: less itself it is 0, not NaN
# Values' scales are small. Times this (exact, and divided out again) their products with weights
# stay clear of float16's subnormal numbers.
LIFT = tl.constexpr(1024.0)
JOINED = tl.constexpr(16)  # splits added up together


@triton.jit
def _segment_of(table, num_segments, position):
    """How many segments start at or before `position`."""
    count = 0
    for first in range(0, num_segments, STARTS):
        segment = first + tl.arange(0, STARTS)
        starts = tl.load(table + segment * COLUMNS, mask=segment < num_segments, other=1 << 62)
        count += tl.sum((starts <= position).to(tl.int32))
    return count


@triton.jit
def _place(table, column: tl.constexpr, head, offset, dtype: tl.constexpr, ALIGNED: tl.constexpr):
    """The address of token `offset` of a segment in one head, and elements per token."""
    address = tl.load(table + column).to(tl.pointer_type(dtype))
    per_token = tl.load(table + column + 1).to(tl.int32)
    per_head = tl.load(table + column + 2)
    if ALIGNED:  # as the table promises; the compiler cannot know
        address = tl.multiple_of(address, 16)
        per_token = tl.multiple_of(per_token, 128 // dtype.primitive_bitwidth)
        per_head = tl.multiple_of(per_head, 128 // dtype.primitive_bitwidth)
    return address + (head * per_head + offset.to(tl.int64) * per_token), per_token


@triton.jit
def _tile(
    q, out, peak, total, position,
    keys, per_key, key_scales, per_key_scale,
    values, per_value, value_scales, per_value_scale,
    first, num_keys, origin, window, sinks, scale,
    HEAD_DIM: tl.constexpr, INT8: tl.constexpr, KEYS: tl.constexpr, MASKED: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Adds keys first .. first + KEYS of a segment to the rows' running softmax.

    Without MASKED every row sees every one of them.
    """
    column = tl.arange(0, HEAD_DIM)
    local = tl.arange(0, KEYS)
    there = local < num_keys - first
    # The tile's own address is int64; the table promises that within a tile int32 is enough.
    base = tl.cast(first, tl.int64)
    k_at = keys + base * per_key + ((local * per_key)[:, None] + column[None, :])
    v_at = values + base * per_value + ((local * per_value)[:, None] + column[None, :])
    if MASKED:
        # Beyond the last token memory may hold anything, NaN too; times a weight of 0 that is NaN.
        k = tl.load(k_at, mask=there[:, None], other=0)
        v = tl.load(v_at, mask=there[:, None], other=0)
    else:
        k = tl.load(k_at)
        v = tl.load(v_at)
    if INT8:  # -127 .. 127 are exact in every dtype
        k_scale = tl.load(key_scales + (base + local) * per_key_scale, mask=there, other=0.0)
        v_scale = tl.load(value_scales + (base + local) * per_value_scale, mask=there, other=0.0)
        k, v = k.to(tl.float32).to(q.dtype), v.to(tl.float32).to(q.dtype)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * (k_scale * scale)[None, :]
    else:
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
    if MASKED:
        key = origin + first + local
        here = position[:, None]
        # One comparison each for what lies ahead and for what a window has left behind.
        ahead = tl.where(there, key, 2147483647)[None, :]
        behind = tl.where(key < sinks, 2147483647, key)[None, :]
        scores = tl.where((ahead <= here) & (behind > here - window), scores, float("-inf"))
    new_peak = tl.maximum(peak, tl.max(scores, 1))
    weights = tl.exp2(scores - new_peak[:, None])
    shrink = tl.exp2(peak - new_peak)
    total = total * shrink + tl.sum(weights, 1)
    out = out * shrink[:, None]
    if INT8:
        weights = weights * (v_scale * LIFT)[None, :]
    out = tl.dot(weights.to(q.dtype), v, out, input_precision=PRECISION)
    return out, new_peak, total


@triton.jit
def _rows(first_row, kv_head, group, num_queries, ROWS: tl.constexpr):
    """Token and query head (int64) of each row of a tile, and whether there is such a row."""
    row = first_row + tl.arange(0, ROWS)
    token = row // group
    return token.to(tl.int64), (kv_head * group + row % group).to(tl.int64), token < num_queries


_ATTEND_NUMBERS = ("num_segments", "num_queries", "group", "num_splits", "window", "sinks")


@triton.jit(do_not_specialize=_ATTEND_NUMBERS)
def _attend(
    q_ptr, table, out_ptr, partial, lse, scale,
    num_segments, num_queries, group, num_splits, window, sinks,
    q_per_token, q_per_head, out_per_token, out_per_head,
    HEAD_DIM: tl.constexpr, INT8: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    kv_head, split = tl.program_id(1), tl.program_id(2)
    first_row = tl.program_id(0) * ROWS
    num_keys = tl.load(table + num_segments * COLUMNS).to(tl.int32)
    history = num_keys - num_queries

    column = tl.arange(0, HEAD_DIM)
    token, head, real = _rows(first_row, kv_head, group, num_queries, ROWS)
    position = history + tl.minimum(token, num_queries - 1).to(tl.int32)
    q_at = q_ptr + (token * q_per_token + head * q_per_head)[:, None] + column[None, :]
    q = tl.load(q_at, mask=real[:, None], other=0.0)

    first_position = history + first_row // group
    last_position = history + tl.minimum(num_queries, (first_row + ROWS - 1) // group + 1) - 1
    # This split's share of what the queries of the call see beside the sinks, cut to these rows.
    base = tl.maximum(history - window + 1, 0) // KEYS * KEYS
    share = tl.cdiv(tl.cdiv(num_keys - base, num_splits), KEYS) * KEYS
    lowest = tl.maximum(first_position - window + 1, 0)
    start = tl.maximum(base + split * share, lowest)
    end = tl.minimum(base + (split + 1) * share, last_position + 1)
    # The first split takes the sinks below the window as a range of their own.
    sinks_end = tl.minimum(sinks, lowest) * (split == 0)

    out = tl.zeros((ROWS, HEAD_DIM), tl.float32)
    peak = tl.full((ROWS,), NOTHING, tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    dtype: tl.constexpr = tl.int8 if INT8 else q_ptr.dtype.element_ty
    for turn in range(1 - tl.minimum(sinks_end, 1), 2):
        from_key = turn * start
        to_key = turn * end + (1 - turn) * sinks_end
        first_segment = _segment_of(table, num_segments, from_key) - 1
        end_segment = _segment_of(table, num_segments, to_key - 1)
        for segment in range(first_segment, end_segment):
            line = table + segment * COLUMNS
            segment_start = tl.load(line).to(tl.int32)
            segment_end = tl.load(line + COLUMNS).to(tl.int32)
            low = tl.maximum(from_key, segment_start)
            high = tl.minimum(to_key, segment_end)
            offset = low - segment_start
            keys, per_key = _place(line, 1, kv_head, offset, dtype, True)
            values, per_value = _place(line, 7, kv_head, offset, dtype, True)
            key_scales, per_key_scale = _place(line, 4, kv_head, offset, tl.float32, False)
            value_scales, per_value_scale = _place(line, 10, kv_head, offset, tl.float32, False)

            # Tiles lead .. lead + num_whole hold keys that every row sees.
            num_tiles = tl.cdiv(high - low, KEYS)
            lead = tl.cdiv(tl.maximum(last_position - window + 1 - low, 0), KEYS)
            seen_by_all = tl.minimum(first_position + 1, high) - low
            num_whole = tl.maximum(tl.maximum(seen_by_all, 0) // KEYS - lead, 0)
            for tile in range(lead, lead + num_whole):
                out, peak, total = _tile(
                    q, out, peak, total, position,
                    keys, per_key, key_scales, per_key_scale,
                    values, per_value, value_scales, per_value_scale,
                    tile * KEYS, high - low, low, window, sinks, scale,
                    HEAD_DIM, INT8, KEYS, False, PRECISION,
                )  # fmt: skip
            for edge in range(num_tiles - num_whole):
                tile = edge + num_whole * (edge >= lead)
                out, peak, total = _tile(
                    q, out, peak, total, position,
                    keys, per_key, key_scales, per_key_scale,
                    values, per_value, value_scales, per_value_scale,
                    tile * KEYS, high - low, low, window, sinks, scale,
                    HEAD_DIM, INT8, KEYS, True, PRECISION,
                )  # fmt: skip

    # A row that saw nothing in this split leaves 0 and NOTHING: no share in what is joined.
    total = tl.where(total > 0, total, 1.0)
    out = out / total[:, None]
    if INT8:
        out = out / LIFT
    # Worked out anew, from a 0 the compiler cannot see through: kept over the loops these would
    # take the registers the tiles need.
    zero = tl.load(table + num_segments * COLUMNS + 1, volatile=True).to(tl.int32)
    token, head, real = _rows(first_row + zero, kv_head, group, num_queries, ROWS)
    if num_splits == 1:
        out_at = out_ptr + (token * out_per_token + head * out_per_head)[:, None] + column[None, :]
        tl.store(out_at, out.to(out_ptr.dtype.element_ty), mask=real[:, None])
    else:
        num_heads = group * tl.num_programs(1)
        slot = (split.to(tl.int64) * num_queries + token) * num_heads + head
        tl.store(partial + (slot * HEAD_DIM)[:, None] + column[None, :], out, mask=real[:, None])
        tl.store(lse + slot, peak + tl.log2(total), mask=real)


_JOIN_NUMBERS = ("num_splits", "num_heads")


@triton.jit(do_not_specialize=_JOIN_NUMBERS)
def _join(
    partial, lse, out_ptr, num_splits, num_heads, out_per_token, out_per_head,
    HEAD_DIM: tl.constexpr,
):  # fmt: skip
    """One output row from all its splits."""
    row = tl.program_id(0).to(tl.int64)
    num_rows = tl.num_programs(0).to(tl.int64)
    column = tl.arange(0, HEAD_DIM)
    peak = tl.full((), NOTHING, tl.float32)
    for first in range(0, num_splits, JOINED):
        split = first + tl.arange(0, JOINED)
        at = lse + split * num_rows + row
        peak = tl.maximum(peak, tl.max(tl.load(at, mask=split < num_splits, other=float("-inf"))))
    out = tl.zeros((HEAD_DIM,), tl.float32)
    total = tl.zeros((), tl.float32)
    for first in range(0, num_splits, JOINED):
        split = first + tl.arange(0, JOINED)
        there = split < num_splits
        slot = split * num_rows + row
        weight = tl.exp2(tl.load(lse + slot, mask=there, other=float("-inf")) - peak)
        part_at = partial + (slot * HEAD_DIM)[:, None] + column[None, :]
        part = tl.load(part_at, mask=there[:, None], other=0.0)
        out += tl.sum(part * weight[:, None], 0)
        total += tl.sum(weight)
    token, head = row // num_heads, row % num_heads
    out_at = out_ptr + token * out_per_token + head * out_per_head + column
    tl.store(out_at, (out / total).to(out_ptr.dtype.element_ty))


_DECODE_ROWS = 16


@dataclass(frozen=True, slots=True)
class Tiling:
    """How `_attend` is cut up and laid out on one kind of GPU."""

    rows: int
    keys: int
    num_warps: int
    num_stages: int


def tiling(
    capability: int, dtype: torch.dtype, head_dim: int, is_int8: bool, num_rows: int
) -> Tiling:
    """`num_rows`: (token, head) pairs per key-value head. The largest tiles that do not spill."""
    if dtype == torch.float32:
        return Tiling(16, 32, num_warps=4, num_stages=2)
    if num_rows <= _DECODE_ROWS:
        if head_dim <= 64 and not is_int8:
            return Tiling(16, 64, num_warps=4, num_stages=3)
        return Tiling(16, 128, num_warps=4, num_stages=2)
    if is_int8 and head_dim > 64 and capability < 90:
        return Tiling(64, 32, num_warps=4, num_stages=2)
    if capability >= 100 and head_dim <= 64 and not is_int8:
        return Tiling(64, 64, num_warps=4, num_stages=2)
    return Tiling(128, 32 if is_int8 or capability >= 100 else 64, num_warps=8, num_stages=3)


# Enough programs for the largest GPU meant; a number of this file, not of the GPU at hand, so that
# results do not depend on it.
_PROGRAMS = 512
_LEAST_KEYS_PER_SPLIT = 256


def split_count(num_tiles: int, num_keys: int) -> int:
    """A power of two: enough that `num_tiles` tiles of rows over `num_keys` keys fill a GPU."""
    wanted = 1 << max(_PROGRAMS // num_tiles, 1).bit_length() - 1
    possible = 1 << max(num_keys // _LEAST_KEYS_PER_SPLIT, 1).bit_length() - 1
    return min(wanted, possible)


def attention(
    q: Tensor,
    segments: Segments,
    scale: float,
    window: int | None = None,
    sinks: int = 0,
) -> Tensor:
    tensors = [rows for pair in segments for rows in pair if isinstance(rows, Tensor)]
    if q.shape[2] not in HEAD_DIMS or gradients.wanted(q, *tensors):
        return tiled.attention(q, segments, scale, window, sinks)
    return attend(q, BlockTable.of(segments, q.dtype), scale, window, sinks)


def attend(
    q: Tensor,
    table: BlockTable,
    scale: float,
    window: int | None = None,
    sinks: int = 0,
    *,
    num_splits: int | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """As `attention` over the keys of `table`, into `out` [T, H, D] if given."""
    num_queries, num_heads, head_dim = q.shape
    if table.num_keys < num_queries:
        raise ValueError(
            f"attention: {num_queries} queries need as many keys, got {table.num_keys}"
        )
    group = num_heads // table.num_kv_heads
    cut = tiling(_capability(q), q.dtype, head_dim, table.is_int8, num_queries * group)
    num_tiles = triton.cdiv(num_queries * group, cut.rows)
    window = table.num_keys if window is None else min(window, table.num_keys)
    if num_splits is None:
        span = min(window + num_queries, table.num_keys)
        num_splits = split_count(num_tiles * table.num_kv_heads, span)
    q = q if _is_aligned(q) else q.clone(memory_format=torch.contiguous_format)
    if out is None:
        out = torch.empty((num_queries, num_heads, head_dim), dtype=q.dtype, device=q.device)
    # Where there is nothing to join these are not touched.
    num_parts = num_splits if num_splits > 1 else 0
    shape = (num_parts, num_queries, num_heads, head_dim)
    partial = torch.empty(shape, dtype=torch.float32, device=q.device)
    lse = torch.empty(shape[:3], dtype=torch.float32, device=q.device)
    _attend[(num_tiles, table.num_kv_heads, num_splits)](
        q, table.rows, out, partial, lse, scale * math.log2(math.e),
        table.num_segments, num_queries, group, num_splits, window, sinks,
        q.stride(0), q.stride(1), out.stride(0), out.stride(1),
        HEAD_DIM=head_dim, INT8=table.is_int8, ROWS=cut.rows, KEYS=cut.keys,
        PRECISION=_precision(q.dtype),
        num_warps=cut.num_warps, num_stages=cut.num_stages,
    )  # fmt: skip
    if num_splits > 1:
        _join[(num_queries * num_heads,)](
            partial, lse, out, num_splits, num_heads, out.stride(0), out.stride(1),
            HEAD_DIM=head_dim, num_warps=4,
        )  # fmt: skip
    return out


def _is_aligned(q: Tensor) -> bool:
    return q.stride(2) == 1 and not any(n % 16 for n in (q.data_ptr(), q.stride(0), q.stride(1)))


def _capability(q: Tensor) -> int:
    if q.device.type != "cuda":
        return 80
    major, minor = torch.cuda.get_device_capability(q.device)
    return 10 * major + minor


def _precision(dtype: torch.dtype) -> str:
    return "tf32x3" if dtype == torch.float32 else "ieee"  # three products that make up for tf32


def _compilation(
    capability: int, dtype: torch.dtype, head_dim: int, is_int8: bool, num_rows: int
) -> Compilation:
    cut = tiling(capability, dtype, head_dim, is_int8, num_rows)
    element = f"*{_NAMES[dtype]}"
    strides = ("q_per_token", "q_per_head", "out_per_token", "out_per_head")
    constants = {
        "HEAD_DIM": head_dim,
        "INT8": is_int8,
        "ROWS": cut.rows,
        "KEYS": cut.keys,
        "PRECISION": _precision(dtype),
    }
    pointers = {"q_ptr": element, "table": "*i64", "out_ptr": element}
    partials = {"partial": "*fp32", "lse": "*fp32"}
    return Compilation(
        f"attention {_NAMES[dtype]}{' int8' * is_int8} {head_dim} {cut.rows} rows",
        _attend,
        {**pointers, **partials, "scale": "fp32"}
        | dict.fromkeys((*_ATTEND_NUMBERS, *strides), "i32")
        | dict.fromkeys(constants, "constexpr"),
        constants,
        cut.num_warps,
        cut.num_stages,
        (*pointers, *partials, *strides),
        (capability,),
    )


def _joining(dtype: torch.dtype, head_dim: int) -> Compilation:
    pointers = {"partial": "*fp32", "lse": "*fp32", "out_ptr": f"*{_NAMES[dtype]}"}
    strides = ("out_per_token", "out_per_head")
    return Compilation(
        f"attention join {_NAMES[dtype]} {head_dim}",
        _join,
        pointers | dict.fromkeys((*_JOIN_NUMBERS, *strides), "i32") | {"HEAD_DIM": "constexpr"},
        {"HEAD_DIM": head_dim},
        aligned=(*pointers, *strides),
    )


_NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
COMPILATIONS = tuple(
    _compilation(capability, dtype, head_dim, is_int8, num_rows)
    for dtype in _NAMES
    for head_dim in HEAD_DIMS
    for is_int8 in (False, True)
    for num_rows in ((1,) if dtype == torch.float32 else (1, 1000))
    for capability in CAPABILITIES
) + tuple(_joining(dtype, head_dim) for dtype in _NAMES for head_dim in HEAD_DIMS)
