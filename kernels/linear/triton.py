"""Matmuls with weights that stay int8 or int4 in memory, and the tiles experts share with them.

Weights are the left operand of every tile product, [outputs, columns] x [columns, rows]: what is
dequantised from codes is then in the registers a tensor core reads it from. Rows of weights
are numbered through the whole stack in int64. A weight without scales is plain, with scales alone
int8, with offsets too int4 (packed as `kernels.quantized` says).
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels import gradients
from kernels.linear import dequantize_blocks as by_blocks
from kernels.quantized import Int4Weight, Int8Weight, IntWeight, Weight

SPAN = 8  # row tiles that go through a stack of weights side by side, sharing them in the L2
_BUSY_PROGRAMS = 512  # about four for each processor of an H100; fixed, so that sums are too
_MOST_SPLITS = 16


@dataclass(frozen=True, slots=True)
class Blocks:
    """How much one program does: `out` x `rows` results, `width` columns at a time."""

    out: int
    rows: int
    width: int
    num_warps: int
    num_stages: int


def tile_blocks(num_rows: int, dtype: torch.dtype) -> Blocks:
    """For a matmul of M of about `num_rows` with one weight.

    Beyond M = 16 tiles are large ones: up to about M = 300 reading the weight takes longer than
    multiplying by it on an H100, the empty rows of a tile included.
    """
    if dtype == torch.float32:  # for checking: no tensor core multiplies float32 exactly
        return Blocks(32, 16, 64, 4, 2)
    return Blocks(32, 16, 128, 4, 4) if num_rows <= 16 else Blocks(128, 128, 64, 8, 4)


ONE_ROW = Blocks(16, 1, 256, 4, 1)
SUM_OUT = 256


def pointers(weight: Weight) -> tuple[Tensor, Tensor | None, Tensor | None, int]:
    """What a kernel is given of a weight: codes, scales, offsets and group."""
    if isinstance(weight, Tensor):
        return weight.contiguous(), None, None, 0
    if isinstance(weight, Int4Weight):
        return (
            weight.packed.contiguous(),
            weight.scales.contiguous(),
            weight.offsets.contiguous(),
            weight.group,
        )
    assert isinstance(weight, Int8Weight)  # blocks come to kernels/linear/dequantize_blocks.py
    return weight.codes.contiguous(), weight.scales.contiguous(), None, 0


@triton.jit
def swizzled(program, num_row_tiles, num_out_tiles, SPAN: tl.constexpr):
    """(row tile, out tile) of a program: SPAN row tiles pass one out tile, then the next one."""
    first = program // (SPAN * num_out_tiles) * SPAN
    height = tl.minimum(num_row_tiles - first, SPAN)
    within = program % (SPAN * num_out_tiles)
    return first + within % height, within // height


@triton.jit
def tile_product(
    x_rows,  # pointers to the first column of each row, [ROWS]
    has_row,
    weight_rows,  # int64 [OUT]
    has_out,
    weight_ptr,
    scale_ptr,
    offset_ptr,
    num_columns,
    GROUP: tl.constexpr,
    OUT: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """float32 [OUT, ROWS]"""
    sums = tl.zeros((OUT, ROWS), tl.float32)
    if offset_ptr is None:
        for start in range(0, num_columns, WIDTH):
            columns = start + tl.arange(0, WIDTH)
            x = tl.load(
                x_rows[None, :] + columns[:, None],
                mask=has_row[None, :] & (columns < num_columns)[:, None],
                other=0.0,
            )
            weight = tl.load(
                weight_ptr + weight_rows[:, None] * num_columns + columns[None, :],
                mask=has_out[:, None] & (columns < num_columns)[None, :],
                other=0,
            )
            sums = tl.dot(weight.to(x.dtype), x, sums, input_precision="ieee")
        if scale_ptr is not None:
            scales = tl.load(scale_ptr + weight_rows, mask=has_out, other=0.0)
            sums *= scales[:, None]
    else:
        HALF: tl.constexpr = GROUP // 2
        num_groups = num_columns // GROUP
        within = tl.arange(0, HALF)
        for group in range(num_groups):
            packed = tl.load(
                weight_ptr + weight_rows[:, None] * (num_columns // 2) + (group * HALF + within),
                mask=has_out[:, None],
                other=0,
            )
            of_group = weight_rows * num_groups + group
            scales = tl.load(scale_ptr + of_group, mask=has_out, other=0.0).to(tl.float32)
            offsets = tl.load(offset_ptr + of_group, mask=has_out, other=0.0).to(tl.float32)
            columns = x_rows[None, :] + (group * GROUP + within)[:, None]
            x = tl.load(columns, mask=has_row[None, :], other=0.0)
            weight = (packed & 15).to(tl.float32) * scales[:, None] + offsets[:, None]
            sums = tl.dot(weight.to(x.dtype), x, sums, input_precision="ieee")
            x = tl.load(columns + HALF, mask=has_row[None, :], other=0.0)
            weight = (packed >> 4).to(tl.float32) * scales[:, None] + offsets[:, None]
            sums = tl.dot(weight.to(x.dtype), x, sums, input_precision="ieee")
    return sums


@triton.jit
def row_product(
    x_row,  # pointer to the first column
    weight_rows,  # int64 [OUT]
    has_out,
    weight_ptr,
    scale_ptr,
    offset_ptr,
    num_columns,
    first,  # columns first .. end - 1, first a multiple of WIDTH
    end,
    GROUP: tl.constexpr,
    OUT: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """float32 [OUT]: one row of x with weights that are read once, so nothing but loads matters."""
    if offset_ptr is None:
        wide_sums = tl.zeros((OUT, WIDTH), tl.float32)
        for start in range(first, end, WIDTH):
            columns = start + tl.arange(0, WIDTH)
            x = tl.load(x_row + columns, mask=columns < num_columns, other=0.0)
            weight = tl.load(
                weight_ptr + weight_rows[:, None] * num_columns + columns[None, :],
                mask=has_out[:, None] & (columns < num_columns)[None, :],
                other=0,
            )
            wide_sums += weight.to(tl.float32) * x.to(tl.float32)[None, :]
        sums = tl.sum(wide_sums, axis=1)
        if scale_ptr is not None:
            sums *= tl.load(scale_ptr + weight_rows, mask=has_out, other=0.0)
    else:
        HALF: tl.constexpr = GROUP // 2
        GROUPS: tl.constexpr = WIDTH // GROUP
        num_groups = num_columns // GROUP
        bytes_within = tl.arange(0, HALF)
        group_sums = tl.zeros((OUT, GROUPS), tl.float32)
        for start in range(first // GROUP, end // GROUP, GROUPS):
            groups = start + tl.arange(0, GROUPS)
            has_group = has_out[:, None] & (groups < num_groups)[None, :]
            packed = tl.load(
                weight_ptr
                + weight_rows[:, None, None] * (num_columns // 2)
                + (groups[:, None] * HALF + bytes_within[None, :])[None, :, :],
                mask=has_group[:, :, None],
                other=0,
            )
            of_group = weight_rows[:, None] * num_groups + groups[None, :]
            scales = tl.load(scale_ptr + of_group, mask=has_group, other=0.0).to(tl.float32)
            offsets = tl.load(offset_ptr + of_group, mask=has_group, other=0.0).to(tl.float32)
            columns = groups[:, None] * GROUP + bytes_within[None, :]
            mask = (groups < num_groups)[:, None]
            x_low = tl.load(x_row + columns, mask=mask, other=0.0).to(tl.float32)
            x_high = tl.load(x_row + columns + HALF, mask=mask, other=0.0).to(tl.float32)
            products = (packed & 15).to(tl.float32) * x_low[None, :, :]
            products += (packed >> 4).to(tl.float32) * x_high[None, :, :]
            group_sums += scales * tl.sum(products, axis=2)
            group_sums += offsets * tl.sum(x_low + x_high, axis=1)[None, :]
        sums = tl.sum(group_sums, axis=1)
    return sums


@triton.jit
def tiles(
    x_ptr,  # [T, I]
    weight_ptr,  # [O, I]
    scale_ptr,
    offset_ptr,
    out_ptr,  # [T, O]
    num_rows,
    num_columns,
    num_out,
    GROUP: tl.constexpr,
    OUT: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    SPAN: tl.constexpr,
):
    row_tile, out_tile = swizzled(
        tl.program_id(0), tl.cdiv(num_rows, ROWS), tl.cdiv(num_out, OUT), SPAN
    )
    rows = (row_tile * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    outs = (out_tile * OUT + tl.arange(0, OUT)).to(tl.int64)
    has_row, has_out = rows < num_rows, outs < num_out
    sums = tile_product(
        x_ptr + rows * num_columns,
        has_row,
        outs,
        has_out,
        weight_ptr,
        scale_ptr,
        offset_ptr,
        num_columns,
        GROUP,
        OUT,
        ROWS,
        WIDTH,
    )
    tl.store(
        out_ptr + rows[None, :] * num_out + outs[:, None],
        sums.to(out_ptr.dtype.element_ty),
        mask=has_row[None, :] & has_out[:, None],
    )


@triton.jit
def one_row(
    x_ptr,  # [I]
    weight_ptr,  # [O, I]
    scale_ptr,
    offset_ptr,
    out_ptr,  # [splits, O]
    num_columns,
    num_out,
    split_columns,
    GROUP: tl.constexpr,
    OUT: tl.constexpr,
    WIDTH: tl.constexpr,
):
    outs = (tl.program_id(0) * OUT + tl.arange(0, OUT)).to(tl.int64)
    split = tl.program_id(1)
    has_out = outs < num_out
    first = split * split_columns
    sums = row_product(
        x_ptr,
        outs,
        has_out,
        weight_ptr,
        scale_ptr,
        offset_ptr,
        num_columns,
        first,
        tl.minimum(first + split_columns, num_columns),
        GROUP,
        OUT,
        WIDTH,
    )
    tl.store(
        out_ptr + split.to(tl.int64) * num_out + outs,
        sums.to(out_ptr.dtype.element_ty),
        mask=has_out,
    )


@triton.jit
def sum_splits(partial_ptr, out_ptr, num_splits, num_out, OUT: tl.constexpr):
    outs = tl.program_id(0) * OUT + tl.arange(0, OUT)
    sums = tl.zeros((OUT,), tl.float32)
    for split in range(num_splits):
        sums += tl.load(partial_ptr + split * num_out + outs, mask=outs < num_out, other=0.0)
    tl.store(out_ptr + outs, sums.to(out_ptr.dtype.element_ty), mask=outs < num_out)


def linear(x: Tensor, weight: IntWeight) -> Tensor:
    if gradients.wanted(x):
        return by_blocks.linear(x, weight)
    return _linear_of_one_row(x, weight) if len(x) == 1 else _linear_of_rows(x, weight)


def _linear_of_rows(x: Tensor, weight: IntWeight) -> Tensor:
    num_rows, num_out = len(x), weight.shape[0]
    out = x.new_empty(num_rows, num_out)
    blocks = tile_blocks(num_rows, x.dtype)
    codes, scales, offsets, group = pointers(weight)
    num_programs = triton.cdiv(num_rows, blocks.rows) * triton.cdiv(num_out, blocks.out)
    tiles[(num_programs,)](
        x.contiguous(),
        codes,
        scales,
        offsets,
        out,
        num_rows,
        weight.shape[1],
        num_out,
        GROUP=group,
        OUT=blocks.out,
        ROWS=blocks.rows,
        WIDTH=blocks.width,
        SPAN=SPAN,
        num_warps=blocks.num_warps,
        num_stages=blocks.num_stages,
    )
    return out


def _linear_of_one_row(x: Tensor, weight: IntWeight) -> Tensor:
    num_out, num_columns = weight.shape
    codes, scales, offsets, group = pointers(weight)
    num_blocks = triton.cdiv(num_out, ONE_ROW.out)
    num_splits = min(_MOST_SPLITS, max(1, _BUSY_PROGRAMS // num_blocks))
    split_columns = ONE_ROW.width * triton.cdiv(num_columns, ONE_ROW.width * num_splits)
    num_splits = triton.cdiv(num_columns, split_columns)
    out = x.new_empty(1, num_out)
    sums = out if num_splits == 1 else x.new_empty(num_splits, num_out, dtype=torch.float32)
    one_row[(num_blocks, num_splits)](
        x.contiguous(),
        codes,
        scales,
        offsets,
        sums,
        num_columns,
        num_out,
        split_columns,
        GROUP=group,
        OUT=ONE_ROW.out,
        WIDTH=ONE_ROW.width,
        num_warps=ONE_ROW.num_warps,
        num_stages=ONE_ROW.num_stages,
    )
    if num_splits > 1:
        sum_splits[(triton.cdiv(num_out, SUM_OUT),)](sums, out, num_splits, num_out, OUT=SUM_OUT)
    return out
