"""Tokens gathered by expert, one matmul per expert that was chosen at all."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.experts.stack import ExpertStack
from kernels.linear import jit, of_rows, upcast_blocks
from kernels.quantized import Weight

# M is rounded up, more so from here on: oneDNN keeps code for each M, 0.5 MB.
_LARGE_M = 128
_STEP, _LARGE_STEP = 16, 32


def experts(
    x: Tensor,
    expert_ids: Tensor,
    expert_weights: Tensor,
    gate_up: Weight | ExpertStack,
    down: Weight | ExpertStack,
) -> Tensor:
    out = torch.zeros(x.shape, device=x.device, dtype=torch.float32)
    chosen = sorted(set(expert_ids.flatten().tolist()))
    if isinstance(gate_up, ExpertStack):
        gate_up.hint(chosen)
    for expert in chosen:
        tokens, slots = (expert_ids == expert).nonzero(as_tuple=True)
        gate, up = _matmul(_rows(x, tokens), gate_up[expert]).chunk(2, dim=-1)  # [t, F] each
        routed = _matmul(F.silu(gate) * up, down[expert])[: len(tokens)]  # [t, D]
        weight = expert_weights[tokens, slots].float()[:, None]
        # A token meets an expert once, so no two rows of one index_add collide.
        out.index_add_(0, tokens, routed.float() * weight)
    return out.to(x.dtype)


def _rows(x: Tensor, tokens: Tensor) -> Tensor:
    """`x[tokens]`; of many also some of the first, so that there are few M to compile for."""
    if x.is_cpu and len(tokens) > jit.SMALL_M:
        step = _STEP if len(tokens) <= _LARGE_M else _LARGE_STEP
        tokens = F.pad(tokens, (0, -len(tokens) % step))
    return x[tokens]


def _matmul(x: Tensor, weight: Weight) -> Tensor:
    if isinstance(weight, Tensor) and weight.dtype != x.dtype:  # the bits of what is widened before
        return upcast_blocks.linear(x, weight)
    return of_rows(x, weight)
