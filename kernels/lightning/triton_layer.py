"""What comes before and after the attention of a Lightning layer, in Triton: one pass each.

Everything between load and store is float32, so that there is one rounding. The sums of squares
run inside one program, in one fixed order.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.compilation import Compilation

_BLOCK_HEADS = 8
_NUM_WARPS = 4
LARGEST_GROUP = 16_384  # channels that one program of `outputs` norms


def lightning_inputs(
    qkv: Tensor,
    num_heads: int,
    silu: bool,
    norm: tuple[Tensor, Tensor, float] | None,
    rope: tuple[Tensor, Tensor] | None,
    scale: float,
    heads_together: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """`qkv` has dense channels. The results are views of one new tensor of fused rows."""
    num_tokens, head_dim = qkv.shape[0], qkv.shape[1] // (3 * num_heads)
    fused = torch.empty(num_tokens, num_heads, 3 * head_dim, dtype=qkv.dtype, device=qkv.device)
    q_weight, k_weight, eps = norm or (qkv, qkv, 0.0)
    cosine, sine = (x.contiguous() for x in rope) if rope else (qkv, qkv)
    inputs[num_tokens, triton.cdiv(num_heads, _BLOCK_HEADS)](
        qkv, fused, q_weight, k_weight, cosine, sine, eps, scale, qkv.stride(0),
        H=num_heads, TOGETHER=heads_together, D=head_dim, HALF=cosine.shape[-1] if rope else 0,
        SILU=silu, NORM=norm is not None, BLOCK_H=_BLOCK_HEADS,
        BLOCK_D=triton.next_power_of_2(head_dim), num_warps=_NUM_WARPS,
    )  # fmt: skip
    q, k, v = fused.chunk(3, dim=-1)
    return q, k, v


def lightning_output(out: Tensor, gate: Tensor, weight: Tensor, eps: float, groups: int) -> Tensor:
    """`out` and `gate` [T, H E] have dense channels; a group has at most `LARGEST_GROUP`."""
    size = gate.shape[1] // groups
    result = torch.empty(gate.shape, dtype=out.dtype, device=out.device)
    output[gate.shape[0], groups](
        out, gate, weight, result, eps, out.stride(0), gate.stride(0),
        SIZE=size, BLOCK=triton.next_power_of_2(size), num_warps=_warps_of(size),
    )  # fmt: skip
    return result


def _warps_of(size: int) -> int:
    """About 32 channels of a group for a thread."""
    return next((warps for warps in (1, 2, 4, 8) if size <= 1024 * warps), 16)


@triton.jit
def inputs(
    qkv, fused, q_weight, k_weight, cosine, sine, eps, scale, qkv_token,
    H: tl.constexpr, TOGETHER: tl.constexpr, D: tl.constexpr, HALF: tl.constexpr,
    SILU: tl.constexpr, NORM: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One token and some of its heads, whose rows are [q|k|v] of TOGETHER heads at a time. HALF is
    half of the rotated channels."""
    token = tl.program_id(0).to(tl.int64)
    head = (tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H))[:, None]
    d = tl.arange(0, BLOCK_D)[None, :]
    inside = (head < H) & (d < D)
    qkv += token * qkv_token + (head // TOGETHER * (2 * TOGETHER) + head) * D
    fused += token * (H * 3 * D) + head * (3 * D)
    cosine += token * HALF
    sine += token * HALF
    q = _query_or_key(qkv, q_weight, cosine, sine, eps, d, inside, D, HALF, SILU, NORM)
    k = _query_or_key(
        qkv + TOGETHER * D, k_weight, cosine, sine, eps, d, inside, D, HALF, SILU, NORM
    )
    v = _activated(qkv + 2 * TOGETHER * D + d, inside, SILU)
    kind: tl.constexpr = fused.dtype.element_ty
    tl.store(fused + d, (q * scale).to(kind), mask=inside)
    tl.store(fused + D + d, k.to(kind), mask=inside)
    tl.store(fused + 2 * D + d, v.to(kind), mask=inside)


@triton.jit
def _query_or_key(
    rows, weight, cosine, sine, eps, d, inside,
    D: tl.constexpr, HALF: tl.constexpr, SILU: tl.constexpr, NORM: tl.constexpr,
):  # fmt: skip
    x = _activated(rows + d, inside, SILU)
    inverse_rms = 1.0
    if NORM:
        inverse_rms = 1.0 / tl.sqrt(tl.sum(x * x, axis=1, keep_dims=True) / D + eps)
        x = x * inverse_rms * tl.load(weight + d, mask=d < D, other=0.0).to(tl.float32)
    if HALF:
        rotated = d < 2 * HALF
        partner = tl.where(d < HALF, d + HALF, d - HALF)
        other = _activated(rows + partner, inside & rotated, SILU)
        if NORM:
            other_weight = tl.load(weight + partner, mask=rotated, other=0.0)
            other = other * inverse_rms * other_weight.to(tl.float32)
        angle = tl.where(d < HALF, d, d - HALF)
        cos = tl.load(cosine + angle, mask=rotated, other=1.0)
        sin = tl.load(sine + angle, mask=rotated, other=0.0)
        x = x * cos + tl.where(d < HALF, -other, other) * sin
    return x


@triton.jit
def _activated(pointers, inside, SILU: tl.constexpr):
    x = tl.load(pointers, mask=inside, other=0.0).to(tl.float32)
    if SILU:
        x = x * tl.sigmoid(x)
    return x


@triton.jit
def output(
    out, gate, weight, result, eps, out_token, gate_token, SIZE: tl.constexpr, BLOCK: tl.constexpr
):
    """One group of one token's channels."""
    token, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    lane = tl.arange(0, BLOCK)
    column = group * SIZE + lane
    inside = lane < SIZE
    x = tl.load(out + token * out_token + column, mask=inside, other=0.0).to(tl.float32)
    opened = tl.load(gate + token * gate_token + column, mask=inside, other=0.0).to(tl.float32)
    scale = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    inverse_rms = 1.0 / tl.sqrt(tl.sum(x * x, axis=0) / SIZE + eps)
    normed = x * inverse_rms * scale * tl.sigmoid(opened)
    to = result + token * (tl.num_programs(1) * SIZE) + column
    tl.store(to, normed.to(result.dtype.element_ty), mask=inside)


def _compilation(
    name: str, kernel: Any, dtype: str, constants: dict[str, int | bool], num_warps: int
) -> Compilation:
    kinds = dict.fromkeys(("qkv", "fused", "q_weight", "k_weight"), f"*{dtype}")
    kinds |= dict.fromkeys(("out", "gate", "weight", "result"), f"*{dtype}")
    kinds |= dict.fromkeys(("cosine", "sine"), "*fp32") | dict.fromkeys(("eps", "scale"), "fp32")
    kinds |= dict.fromkeys(("qkv_token", "out_token", "gate_token"), "i32")
    kinds |= dict.fromkeys(constants, "constexpr")
    signature = {argument: kinds[argument] for argument in kernel.arg_names}
    aligned = tuple(x for x, kind in signature.items() if kind == "i32" or kind.startswith("*"))
    return Compilation(name, kernel, signature, constants, num_warps, aligned=aligned)


def _compilations(dtype: str, num_heads: int, head_dim: int) -> list[Compilation]:
    sizes = {"H": num_heads, "D": head_dim, "BLOCK_H": _BLOCK_HEADS, "BLOCK_D": head_dim}
    plain = sizes | {"TOGETHER": 1, "HALF": 0, "SILU": True, "NORM": False}
    every = plain | {"HALF": head_dim // 4, "SILU": False, "NORM": True}
    apart = every | {"TOGETHER": num_heads}
    made = [
        _compilation(
            f"lightning inputs {which} {dtype} {num_heads} x {head_dim}", inputs, dtype, x, 4
        )
        for which, x in (("silu", plain), ("norm rope", every), ("by kind", apart))
    ]
    for groups in (1, 4):
        size = num_heads * head_dim // groups
        constants = {"SIZE": size, "BLOCK": triton.next_power_of_2(size)}
        name = f"lightning output {dtype} {size}"
        made.append(_compilation(name, output, dtype, constants, _warps_of(size)))
    return made


COMPILATIONS = tuple(
    compilation
    for dtype in ("bf16", "fp16", "fp32")
    for num_heads, head_dim in ((64, 128), (9, 64))
    for compilation in _compilations(dtype, num_heads, head_dim)
)
