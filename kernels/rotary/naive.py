"""The definition, in float64: pairs as complex numbers, times e^(i angle)."""

import torch
from torch import Tensor


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    half = cosine.shape[-1]
    pairs = torch.complex(x[..., :half].double(), x[..., half : 2 * half].double())
    rotated = pairs * torch.complex(cosine.double(), sine.double())
    return torch.cat([rotated.real, rotated.imag, x[..., 2 * half :].double()], dim=-1)
