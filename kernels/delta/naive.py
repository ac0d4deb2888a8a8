"""The definitions, in float64; the recurrence goes one token at a time."""

import torch
from torch import Tensor


def gated_delta(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    q, k, v, decay, beta, state = (x.double() for x in (q, k, v, decay, beta, state))
    num_values_per_key = v.shape[1] // k.shape[1]
    q, k = (x.repeat_interleave(num_values_per_key, dim=1) for x in (q, k))
    outputs = []
    for q_t, k_t, v_t, decay_t, beta_t in zip(q, k, v, decay, beta, strict=True):
        state = decay_t.exp()[:, None, None] * state  # [H, D, E]
        known = (k_t[:, :, None] * state).sum(dim=1)  # [H, E]
        written = beta_t[:, None] * (v_t - known)
        state = state + k_t[:, :, None] * written[:, None, :]
        outputs.append((q_t[:, :, None] * state).sum(dim=1))
    return torch.stack(outputs), state


def gated_delta_state(
    k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, state: Tensor, num_tokens: Tensor
) -> Tensor:
    first = slice(int(num_tokens))
    if not first.stop:
        return state.double()
    return gated_delta(k[first], k[first], v[first], decay[first], beta[first], state)[1]


def short_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor, silu: bool
) -> tuple[Tensor, Tensor]:
    rows = torch.cat([state.double(), x.double()])  # [K - 1 + T, C]
    taps = weight.shape[1]
    windows = rows.unfold(0, taps, 1)  # [T, C, K]
    out = (windows * weight.double()).sum(dim=-1)
    if bias is not None:
        out = out + bias.double()
    if silu:
        out = out * torch.sigmoid(out)
    return out, rows[len(x) :]
