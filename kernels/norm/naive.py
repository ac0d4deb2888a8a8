"""The definition, in float64."""

from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float, groups: int) -> Tensor:
    grouped = x.double().reshape(*x.shape[:-1], groups, -1)
    rms = (grouped.square().mean(dim=-1, keepdim=True) + eps).sqrt()
    normed = (grouped / rms).reshape(x.shape)
    return normed * weight.double()


def rms_norm_of_sum(
    skip: Tensor, block: Tensor, alpha: float, beta: float, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    total = alpha * skip.double() + beta * block.double()
    return total, rms_norm(total, weight, eps, 1)
