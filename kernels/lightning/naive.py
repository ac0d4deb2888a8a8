"""The definitions, in float64; the recurrence goes one token at a time."""

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


def lightning_state(
    k: Tensor, v: Tensor, slopes: Tensor, state: Tensor, num_tokens: Tensor
) -> Tensor:
    first = slice(int(num_tokens))
    if not first.stop:
        return state.double()
    return lightning_attention(k[first], k[first], v[first], slopes, state)[1]


def lightning_inputs(
    qkv: Tensor,
    num_heads: int,
    silu: bool,
    norm: tuple[Tensor, Tensor, float] | None,
    rope: tuple[Tensor, Tensor] | None,
    scale: float,
    heads_together: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    qkv = qkv.double()
    if silu:
        qkv = qkv * torch.sigmoid(qkv)
    blocks = qkv.view(qkv.shape[0], num_heads // heads_together, 3, heads_together, -1)
    q, k, v = (blocks[:, :, kind].flatten(1, 2) for kind in range(3))
    if norm is not None:
        q_weight, k_weight, eps = norm
        q = q / (q.square().mean(-1, keepdim=True) + eps).sqrt() * q_weight.double()
        k = k / (k.square().mean(-1, keepdim=True) + eps).sqrt() * k_weight.double()
    if rope is not None:
        angle = torch.complex(*(x.double() for x in rope))  # [T, 1, R / 2]
        q, k = _rotate(q, angle), _rotate(k, angle)
    return q * scale, k, v


def _rotate(x: Tensor, angle: Tensor) -> Tensor:
    half = angle.shape[-1]
    rotated = torch.complex(x[..., :half], x[..., half : 2 * half]) * angle
    return torch.cat([rotated.real, rotated.imag, x[..., 2 * half :]], dim=-1)


def lightning_output(out: Tensor, gate: Tensor, weight: Tensor, eps: float, groups: int) -> Tensor:
    x = out.double().reshape(gate.shape[0], groups, -1)
    normed = x / (x.square().mean(-1, keepdim=True) + eps).sqrt()
    return torch.sigmoid(gate.double()) * normed.flatten(1) * weight.double()
