"""Rotary position embedding on the first dimensions of each head (arXiv 2104.09864)."""

from functools import lru_cache

import torch
from torch import Tensor


def rotation(
    frequencies: tuple[float, ...],
    start: int | Tensor,
    num_tokens: int,
    device: torch.device,
    factor: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every rotated pair at positions start .. start + num_tokens - 1, times
    `factor`.

    Each [T, 1, rotary_dim / 2] float32. Kept for the other layers of the same chunk, unless `start`
    is an integer [1] on the device, which is not asked for it.
    """
    if isinstance(start, Tensor):
        place = positions(start, num_tokens, device)
        return _turns(place, _per_position(frequencies, device), factor)
    return _kept_rotation(frequencies, start, num_tokens, device, factor)


def positions(start: int | Tensor, num_tokens: int, device: torch.device) -> Tensor:
    """start .. start + num_tokens - 1, [T] float64."""
    if isinstance(start, Tensor):
        return start + torch.arange(num_tokens, dtype=torch.float64, device=device)
    return torch.arange(start, start + num_tokens, dtype=torch.float64, device=device)


@lru_cache(maxsize=4)
def _kept_rotation(
    frequencies: tuple[float, ...],
    start: int,
    num_tokens: int,
    device: torch.device,
    factor: float,
) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):
        place = positions(start, num_tokens, device)
        return _turns(place, _per_position(frequencies, device), factor)


@lru_cache(maxsize=16)
def _per_position(frequencies: tuple[float, ...], device: torch.device) -> Tensor:
    """[rotary_dim / 2], made once: a copy to a GPU cannot be part of a recorded step."""
    with torch.inference_mode(False):
        return torch.tensor(frequencies, dtype=torch.float64, device=device)


def _turns(position: Tensor, per_position: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    # Angles reach 1e6 radians at a million tokens: only float64 keeps them to the last digit.
    angle = (position[:, None] * per_position)[:, None, :]
    return (angle.cos() * factor).float(), (angle.sin() * factor).float()
