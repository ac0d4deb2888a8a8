"""Rotary position embedding on the first dimensions of each head (arXiv 2104.09864)."""

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=4)
def rotation(
    frequencies: tuple[float, ...], start: int, num_tokens: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every rotated pair at positions start .. start + num_tokens - 1.

    Each [T, 1, rotary_dim / 2] float32. Kept for the other layers of the same chunk.
    """
    with torch.inference_mode(False):
        # Angles reach 1e6 radians at a million tokens: only float64 keeps them to the last digit.
        per_position = torch.tensor(frequencies, dtype=torch.float64, device=device)
        position = torch.arange(start, start + num_tokens, dtype=torch.float64, device=device)
        angle = (position[:, None] * per_position)[:, None, :]
        return angle.cos().float(), angle.sin().float()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turns pairs (i, i + rotary_dim / 2) of x [T, H, D]; the other dimensions pass."""
    half = cosine.shape[-1]
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    parts = (first * cosine - second * sine, second * cosine + first * sine, rest)
    return torch.cat(parts, dim=-1).to(x.dtype)
