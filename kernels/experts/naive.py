"""The definition: every token through each of its experts, in float64."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.experts.stack import ExpertStack
from kernels.quantized import Weight, dequantized


def experts(
    x: Tensor,
    expert_ids: Tensor,
    expert_weights: Tensor,
    gate_up: Weight | ExpertStack,
    down: Weight | ExpertStack,
) -> Tensor:
    rows = []
    for x_t, ids, weights in zip(x.double(), expert_ids, expert_weights.double(), strict=True):
        row = torch.zeros_like(x_t)
        for expert, weight in zip(ids.tolist(), weights, strict=True):
            gate, up = (dequantized(gate_up[expert], torch.float64) @ x_t).chunk(2)
            inner = F.silu(gate) * up
            row = row + weight * (dequantized(down[expert], torch.float64) @ inner)
        rows.append(row)
    return torch.stack(rows)
