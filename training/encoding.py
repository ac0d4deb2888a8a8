"""Weights that were quantised once, as small as they were then, and back to the last bit.

A matrix that came from 4-bit blocks (32 values d q + m, q in 0..15) or 8-bit ones (d q, |q| <= 127;
d and m in half precision) is found to be one by trying: what does not come back exactly is kept in
half precision, or as it is.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

_BLOCK = 32


def encode(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each float32 tensor as one to three smaller ones, under names that `grow` knows."""
    small: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        for form in (_four_bits, _eight_bits, _half):
            parts = form(tensor)
            if parts is not None:
                candidate = {f"{name}|{key}": value.contiguous() for key, value in parts.items()}
                if torch.equal(decode(candidate)[name], tensor):
                    small |= candidate
                    break
        else:
            small[f"{name}|plain"] = tensor.contiguous()
    return small


def decode(small: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The float32 tensors that `shrink` was given."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in small.items():
        name, _, part = key.rpartition("|")
        parts.setdefault(name, {})[part] = value
    return {name: _restored(found) for name, found in parts.items()}


def _four_bits(tensor: Tensor) -> dict[str, Tensor] | None:
    if tensor.dim() != 2 or tensor.shape[1] % _BLOCK:
        return None
    blocks = tensor.view(tensor.shape[0], -1, _BLOCK)
    low, high = blocks.aminmax(dim=-1, keepdim=True)
    step = ((high - low) / 15).half()
    q = ((blocks - low) / step.float()).nan_to_num(0, 0, 0).round().clamp(0, 15).byte()
    return {"q4": q[..., ::2] | q[..., 1::2] << 4, "step": step, "low": low.half()}


def _eight_bits(tensor: Tensor) -> dict[str, Tensor] | None:
    if tensor.dim() != 2 or tensor.shape[1] % _BLOCK:
        return None
    blocks = tensor.view(tensor.shape[0], -1, _BLOCK)
    step = (blocks.abs().amax(dim=-1, keepdim=True) / 127).half()
    q = (blocks / step.float()).nan_to_num(0, 0, 0).round().clamp(-127, 127).char()
    return {"q8": q, "step": step}


def _half(tensor: Tensor) -> dict[str, Tensor]:
    return {"half": tensor.half()}


def _restored(parts: Mapping[str, Tensor]) -> Tensor:
    if "q4" in parts:
        q = torch.stack([parts["q4"] & 15, parts["q4"] >> 4], dim=-1).flatten(-2).float()
        return (parts["step"].float() * q + parts["low"].float()).flatten(1)
    if "q8" in parts:
        return (parts["step"].float() * parts["q8"].float()).flatten(1)
    if "half" in parts:
        return parts["half"].float()
    return parts["plain"]
