"""The definition: the recurrence, one token at a time, in float64."""

import torch
from torch import Tensor


def lightning_attention(
    q: Tensor, k: Tensor, v: Tensor, slopes: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    q, k, v, state = q.double(), k.double(), v.double(), state.double()
    decay = torch.exp(-slopes.double())[:, None, None]
    outputs = []
    for q_t, k_t, v_t in zip(q, k, v, strict=True):
        state = decay * state + k_t[:, :, None] * v_t[:, None, :]  # [H, D, E]
        outputs.append((q_t[:, :, None] * state).sum(dim=1))  # [H, E]
    return torch.stack(outputs), state
