"""What comes before and after the attention of a Lightning layer, in torch's own operations; norms
and ropes of few tokens on a CPU go through the JIT."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.norm.jit import rms_norm
from kernels.rotary.jit import rotate


def lightning_inputs(
    qkv: Tensor,
    num_heads: int,
    silu: bool,
    norm: tuple[Tensor, Tensor, float] | None,
    rope: tuple[Tensor, Tensor] | None,
    scale: float,
    heads_together: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    if silu:
        qkv = F.silu(qkv)
    blocks = qkv.view(qkv.shape[0], num_heads // heads_together, 3, heads_together, -1)
    q, k, v = (blocks[:, :, kind].flatten(1, 2) for kind in range(3))
    if norm is not None:
        q_weight, k_weight, eps = norm
        q, k = rms_norm(q, q_weight, eps, 1), rms_norm(k, k_weight, eps, 1)
    if rope is not None:
        q, k = rotate(q, *rope), rotate(k, *rope)
    if scale != 1.0:
        q = q * scale
    return q, k, v


def lightning_output(out: Tensor, gate: Tensor, weight: Tensor, eps: float, groups: int) -> Tensor:
    return torch.sigmoid(gate) * rms_norm(out.reshape(gate.shape), weight, eps, groups)
