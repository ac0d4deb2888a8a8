"""Experts on a GPU: one launch for all tiles of all experts, or one pass over the chosen weights.

Nothing is read back by the host and every shape follows from those of the arguments, so both forms
can be captured in a CUDA graph. A token's K results are written apart and summed in expert order.

Many tokens: (token, k) slots are sorted by expert and cut into tiles of rows of one expert; there
are launched as many tiles as any routing could need, and those left over return at once.
Few tokens: each slot is a row of its own; what counts is that weights come in at full speed.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels import gradients
from kernels.experts import grouped
from kernels.linear.triton import (
    ONE_ROW,
    SPAN,
    pointers,
    row_product,
    swizzled,
    tile_blocks,
    tile_product,
)
from kernels.quantized import Weight

_FEW_TOKENS = 8
SUM_WIDTH = 1024


class Tiles(NamedTuple):
    """Which rows each program of the form for many tokens multiplies by which expert.

    `order` [T K] holds the slots t K + k sorted by expert, tokens of one expert in their order.
    Tile i is positions `firsts[i]` .. min(`firsts[i]` + rows, `ends[i]`) - 1 of it, for expert
    `experts[i]`; there is nothing where `ends[i]` is 0.
    """

    order: Tensor
    experts: Tensor
    firsts: Tensor
    ends: Tensor


def cut_into_tiles(expert_ids: Tensor, num_experts: int, num_rows: int) -> Tiles:
    """`num_rows` to a tile; as many tiles as T, K and N can ever need. On the ids' device."""
    num_slots = expert_ids.numel()
    # Every expert that was chosen at all ends in a tile that may hold a single row.
    num_tiles = (num_slots + min(num_experts, num_slots) * (num_rows - 1)) // num_rows
    sorted_ids, order = expert_ids.flatten().sort(stable=True)
    experts = torch.arange(num_experts, device=expert_ids.device)
    starts = torch.searchsorted(sorted_ids, experts)
    ends = torch.searchsorted(sorted_ids, experts, right=True)
    num_each = (ends - starts + num_rows - 1) // num_rows
    tile_ends = num_each.cumsum(0)
    tiles = torch.arange(num_tiles, device=expert_ids.device)
    of_tile = torch.searchsorted(tile_ends, tiles, right=True)
    is_used, of_tile = of_tile < num_experts, of_tile.clamp(max=num_experts - 1)
    within = tiles - (tile_ends - num_each)[of_tile]
    return Tiles(order, of_tile, starts[of_tile] + within * num_rows, ends[of_tile] * is_used)


@triton.jit
def _silu_times(pairs, OUT: tl.constexpr, ROWS: tl.constexpr):
    """[2 OUT, ROWS], gate and up rows in turn -> silu(gate) up, [OUT, ROWS]"""
    gate, up = tl.split(tl.permute(tl.reshape(pairs, (OUT, 2, ROWS)), (0, 2, 1)))
    return gate * tl.sigmoid(gate) * up


@triton.jit
def gate_up_tiles(
    x_ptr,  # [T, D]
    order_ptr,
    experts_ptr,
    firsts_ptr,
    ends_ptr,
    weight_ptr,  # [N, 2F, D]
    scale_ptr,
    offset_ptr,
    inner_ptr,  # [T K, F], in the tiles' order
    num_chosen,
    num_tiles,
    num_columns,
    num_inner,
    GROUP: tl.constexpr,
    OUT: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    SPAN: tl.constexpr,
):
    tile, out_tile = swizzled(tl.program_id(0), num_tiles, tl.cdiv(num_inner, OUT), SPAN)
    first, end = tl.load(firsts_ptr + tile), tl.load(ends_ptr + tile)
    if first >= end:
        return
    rows = first + tl.arange(0, ROWS)
    has_row = rows < end
    tokens = tl.load(order_ptr + rows, mask=has_row, other=0) // num_chosen
    pairs = out_tile * (2 * OUT) + tl.arange(0, 2 * OUT)
    weight_rows = tl.load(experts_ptr + tile) * (2 * num_inner) + pairs // 2 + pairs % 2 * num_inner
    products = tile_product(
        x_ptr + tokens * num_columns,
        has_row,
        weight_rows,
        pairs < 2 * num_inner,
        weight_ptr,
        scale_ptr,
        offset_ptr,
        num_columns,
        GROUP,
        2 * OUT,
        ROWS,
        WIDTH,
    )
    inner = _silu_times(products, OUT, ROWS)
    outs = out_tile * OUT + tl.arange(0, OUT)
    tl.store(
        inner_ptr + rows[None, :] * num_inner + outs[:, None],
        inner.to(inner_ptr.dtype.element_ty),
        mask=has_row[None, :] & (outs < num_inner)[:, None],
    )


@triton.jit
def down_tiles(
    inner_ptr,  # [T K, F], in the tiles' order
    order_ptr,
    experts_ptr,
    firsts_ptr,
    ends_ptr,
    weight_ptr,  # [N, D, F]
    scale_ptr,
    offset_ptr,
    routed_ptr,  # [T K, D], in the slots' order
    num_tiles,
    num_inner,
    num_out,
    GROUP: tl.constexpr,
    OUT: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    SPAN: tl.constexpr,
):
    tile, out_tile = swizzled(tl.program_id(0), num_tiles, tl.cdiv(num_out, OUT), SPAN)
    first, end = tl.load(firsts_ptr + tile), tl.load(ends_ptr + tile)
    if first >= end:
        return
    rows = first + tl.arange(0, ROWS)
    has_row = rows < end
    outs = out_tile * OUT + tl.arange(0, OUT)
    has_out = outs < num_out
    products = tile_product(
        inner_ptr + rows * num_inner,
        has_row,
        tl.load(experts_ptr + tile) * num_out + outs,
        has_out,
        weight_ptr,
        scale_ptr,
        offset_ptr,
        num_inner,
        GROUP,
        OUT,
        ROWS,
        WIDTH,
    )
    slots = tl.load(order_ptr + rows, mask=has_row, other=0)
    tl.store(
        routed_ptr + slots[None, :] * num_out + outs[:, None],
        products.to(routed_ptr.dtype.element_ty),
        mask=has_row[None, :] & has_out[:, None],
    )


@triton.jit
def weighted_sums(
    routed_ptr,  # [T K, D]
    expert_weights_ptr,  # [T K] float32
    out_ptr,  # [T, D]
    num_chosen,
    num_out,
    WIDTH: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    sums = tl.zeros((WIDTH,), tl.float32)
    for k in range(num_chosen):
        slot = token * num_chosen + k
        routed = tl.load(routed_ptr + slot * num_out + columns, mask=columns < num_out, other=0.0)
        sums += tl.load(expert_weights_ptr + slot) * routed.to(tl.float32)
    tl.store(
        out_ptr + token * num_out + columns,
        sums.to(out_ptr.dtype.element_ty),
        mask=columns < num_out,
    )


@triton.jit
def gate_up_rows(
    x_ptr,  # [T, D]
    expert_ids_ptr,  # [T K]
    weight_ptr,  # [N, 2F, D]
    scale_ptr,
    offset_ptr,
    inner_ptr,  # [T K, F]
    num_chosen,
    num_columns,
    num_inner,
    GROUP: tl.constexpr,
    OUT: tl.constexpr,
    WIDTH: tl.constexpr,
):
    slot = tl.program_id(0).to(tl.int64)
    pairs = tl.program_id(1) * OUT + tl.arange(0, OUT)
    expert = tl.load(expert_ids_ptr + slot)
    products = row_product(
        x_ptr + slot // num_chosen * num_columns,
        expert * (2 * num_inner) + pairs // 2 + pairs % 2 * num_inner,
        pairs < 2 * num_inner,
        weight_ptr,
        scale_ptr,
        offset_ptr,
        num_columns,
        0,
        num_columns,
        GROUP,
        OUT,
        WIDTH,
    )
    inner = _silu_times(products[:, None], OUT // 2, 1)
    outs = tl.program_id(1) * (OUT // 2) + tl.arange(0, OUT // 2)
    tl.store(
        inner_ptr + slot * num_inner + outs[:, None],
        inner.to(inner_ptr.dtype.element_ty),
        mask=(outs < num_inner)[:, None],
    )


@triton.jit
def down_rows(
    inner_ptr,  # [T K, F]
    expert_ids_ptr,  # [T K]
    expert_weights_ptr,  # [T K] float32
    weight_ptr,  # [N, D, F]
    scale_ptr,
    offset_ptr,
    out_ptr,  # [T, D]
    num_chosen,
    num_inner,
    num_out,
    GROUP: tl.constexpr,
    OUT: tl.constexpr,
    WIDTH: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    outs = tl.program_id(1) * OUT + tl.arange(0, OUT)
    sums = tl.zeros((OUT,), tl.float32)
    for k in range(num_chosen):
        slot = token * num_chosen + k
        products = row_product(
            inner_ptr + slot * num_inner,
            tl.load(expert_ids_ptr + slot) * num_out + outs,
            outs < num_out,
            weight_ptr,
            scale_ptr,
            offset_ptr,
            num_inner,
            0,
            num_inner,
            GROUP,
            OUT,
            WIDTH,
        )
        sums += tl.load(expert_weights_ptr + slot) * products
    tl.store(
        out_ptr + token * num_out + outs, sums.to(out_ptr.dtype.element_ty), mask=outs < num_out
    )


def experts(
    x: Tensor, expert_ids: Tensor, expert_weights: Tensor, gate_up: Weight, down: Weight
) -> Tensor:
    plain = (weight for weight in (gate_up, down) if isinstance(weight, Tensor))
    if gradients.wanted(x, expert_weights, *plain):
        return grouped.experts(x, expert_ids, expert_weights, gate_up, down)
    expert_ids, order = expert_ids.sort(dim=-1)
    expert_weights = expert_weights.gather(-1, order).float().contiguous()
    of_tokens = _of_few_tokens if len(x) <= _FEW_TOKENS else _of_many_tokens
    return of_tokens(x.contiguous(), expert_ids.contiguous(), expert_weights, gate_up, down)


def _of_few_tokens(
    x: Tensor, expert_ids: Tensor, expert_weights: Tensor, gate_up: Weight, down: Weight
) -> Tensor:
    num_tokens, num_chosen = expert_ids.shape
    _, width, num_inner = down.shape
    inner = x.new_empty(num_tokens * num_chosen, num_inner)
    out = torch.empty_like(x)
    codes, scales, offsets, group = pointers(gate_up)
    gate_up_rows[(num_tokens * num_chosen, triton.cdiv(2 * num_inner, ONE_ROW.out))](
        x,
        expert_ids,
        codes,
        scales,
        offsets,
        inner,
        num_chosen,
        width,
        num_inner,
        GROUP=group,
        OUT=ONE_ROW.out,
        WIDTH=ONE_ROW.width,
        num_warps=ONE_ROW.num_warps,
        num_stages=ONE_ROW.num_stages,
    )
    codes, scales, offsets, group = pointers(down)
    down_rows[(num_tokens, triton.cdiv(width, ONE_ROW.out))](
        inner,
        expert_ids,
        expert_weights,
        codes,
        scales,
        offsets,
        out,
        num_chosen,
        num_inner,
        width,
        GROUP=group,
        OUT=ONE_ROW.out,
        WIDTH=ONE_ROW.width,
        num_warps=ONE_ROW.num_warps,
        num_stages=ONE_ROW.num_stages,
    )
    return out


def _of_many_tokens(
    x: Tensor, expert_ids: Tensor, expert_weights: Tensor, gate_up: Weight, down: Weight
) -> Tensor:
    num_tokens, num_chosen = expert_ids.shape
    num_slots = num_tokens * num_chosen
    num_experts, width, num_inner = down.shape
    blocks = tile_blocks(triton.cdiv(num_slots, num_experts), x.dtype)
    tiles = cut_into_tiles(expert_ids, num_experts, blocks.rows)
    num_tiles = len(tiles.experts)
    launch = {
        "ROWS": blocks.rows,
        "WIDTH": blocks.width,
        "SPAN": SPAN,
        "num_warps": blocks.num_warps,
        "num_stages": blocks.num_stages,
    }
    inner = x.new_empty(num_slots, num_inner)
    routed = x.new_empty(num_slots, width)
    out = torch.empty_like(x)
    codes, scales, offsets, group = pointers(gate_up)
    gate_up_tiles[(num_tiles * triton.cdiv(num_inner, blocks.out // 2),)](
        x,
        *tiles,
        codes,
        scales,
        offsets,
        inner,
        num_chosen,
        num_tiles,
        width,
        num_inner,
        GROUP=group,
        OUT=blocks.out // 2,
        **launch,
    )
    codes, scales, offsets, group = pointers(down)
    down_tiles[(num_tiles * triton.cdiv(width, blocks.out),)](
        inner,
        *tiles,
        codes,
        scales,
        offsets,
        routed,
        num_tiles,
        num_inner,
        width,
        GROUP=group,
        OUT=blocks.out,
        **launch,
    )
    weighted_sums[(num_tokens, triton.cdiv(width, SUM_WIDTH))](
        routed, expert_weights, out, num_chosen, width, WIDTH=SUM_WIDTH
    )
    return out
