import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.linear.half import FEW_ROWS


def linear(x: Tensor, weight: Tensor) -> Tensor:
    if not is_few(x, weight):
        return F.linear(x, weight)
    # A row's bits depend on how many there are, and where it begins: so few go one by one.
    rows = [F.linear(row[None].clone(), weight) for row in x.flatten(0, -2)]
    return torch.cat(rows).view(*x.shape[:-1], -1)


def is_few(x: Tensor, weight: Tensor) -> bool:
    """Whether `x` is a few float32 rows on a CPU, and nobody wants a gradient."""
    few = x.dim() > 1 and 1 < x.shape[:-1].numel() <= FEW_ROWS
    grad = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return few and x.device.type == "cpu" and x.dtype == torch.float32 and not grad
