"""What comes before and after the attention of a Lightning layer, in torch's own operations."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.rotary.plain import rotate


def lightning_inputs(
    qkv: Tensor,
    num_heads: int,
    silu: bool,
    norm: tuple[Tensor, Tensor, float] | None,
    turn: tuple[Tensor, Tensor] | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    if silu:
        qkv = F.silu(qkv)
    q, k, v = qkv.view(qkv.shape[0], num_heads, -1).chunk(3, dim=-1)
    if norm is not None:
        q_weight, k_weight, eps = norm
        q, k = _norm(q, q_weight, eps), _norm(k, k_weight, eps)
    if turn is not None:
        q, k = rotate(q, *turn), rotate(k, *turn)
    if scale != 1.0:
        q = q * scale
    return q, k, v


def lightning_output(out: Tensor, gate: Tensor, weight: Tensor, eps: float, groups: int) -> Tensor:
    out = out.reshape(gate.shape)
    if groups == 1:
        return torch.sigmoid(gate) * _norm(out, weight, eps)
    grouped = out.float().view(*out.shape[:-1], groups, -1)
    normed = F.rms_norm(grouped, grouped.shape[-1:], None, eps)
    return torch.sigmoid(gate) * (normed.flatten(-2) * weight.float()).to(out.dtype)


def _norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x.float(), weight.shape, weight.float(), eps).to(x.dtype)
