"""Rotary position embedding on the first dimensions of each head (arXiv 2104.09864)."""

from functools import lru_cache

import torch
from torch import Tensor

import kernels


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


def rotated(
    x: Tensor, position: int, frequencies: tuple[float, ...], factor: float = 1.0
) -> Tensor:
    """x [T, H, D] with every row turned as at `position`."""
    if not frequencies:
        return x
    turns = _at(position, 1, frequencies, x.device, factor)
    cosine, sine = (one.expand(len(x), -1, -1).contiguous() for one in turns)
    return kernels.rotate(x, cosine, sine)


def unrotated(x: Tensor, start: int, frequencies: tuple[float, ...]) -> Tensor:
    """x [n, H, D], whose rows were turned as at positions from `start` on, turned back."""
    if not frequencies:
        return x
    cosine, sine = _at(start, len(x), frequencies, x.device, 1.0)
    return kernels.rotate(x, cosine, -sine)


def _at(
    start: int, num_tokens: int, frequencies: tuple[float, ...], device: torch.device, factor: float
) -> tuple[Tensor, Tensor]:
    # Not from what is kept for the layers of a chunk, which these would push out.
    place = positions(start, num_tokens, device)
    return _turns(place, _per_position(frequencies, device), factor)


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
