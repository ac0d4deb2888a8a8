import torch
from torch import Tensor


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    half = cosine.shape[-1]
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    parts = (first * cosine - second * sine, second * cosine + first * sine, rest)
    return torch.cat(parts, dim=-1).to(x.dtype)
