"""The definition: every token through each of its experts, in float64."""

import torch
import torch.nn.functional as F
from torch import Tensor


def experts(
    x: Tensor, expert_ids: Tensor, expert_weights: Tensor, gate_up: Tensor, down: Tensor
) -> Tensor:
    rows = []
    for x_t, ids, weights in zip(x.double(), expert_ids, expert_weights.double(), strict=True):
        row = torch.zeros_like(x_t)
        for expert, weight in zip(ids, weights, strict=True):
            gate, up = (gate_up[expert].double() @ x_t).chunk(2)
            row = row + weight * (down[expert].double() @ (F.silu(gate) * up))
        rows.append(row)
    return torch.stack(rows)
