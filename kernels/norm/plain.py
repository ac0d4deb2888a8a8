"""Norms in plain torch. Sums of squares are float32; what is normed is the rounded sum."""

import torch
import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float, groups: int) -> Tensor:
    weight = weight.float()
    if groups == 1:
        return F.rms_norm(x.float(), weight.shape, weight, eps).to(x.dtype)
    grouped = x.float().view(*x.shape[:-1], groups, -1)
    normed = F.rms_norm(grouped, grouped.shape[-1:], None, eps)
    return (normed.flatten(-2) * weight).to(x.dtype)


def rms_norm_of_sum(
    skip: Tensor, block: Tensor, alpha: float, beta: float, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    if alpha != 1.0:
        skip = alpha * skip
    total = torch.add(skip, block, alpha=beta)
    return total, rms_norm(total, weight, eps, 1)
