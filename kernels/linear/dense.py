"""Products with plain weights, where they lie.

Many float32 rows on a CPU go through oneDNN, as those with packed weights do: it needs no copy of
the weight, is up to 1.7 times as fast as MKL where rows are few for their width (64 rows, 9216
wide), and gives a row the same bits in however tall a product, and however the weight's rows are
cut into several. Code is compiled and kept for each number of rows: callers who can, round it up.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import gradients
from kernels.linear import onednn
from kernels.linear.fp16_weight import SMALL_M


def linear(x: Tensor, weight: Tensor) -> Tensor:
    if not is_small_m(x, weight):
        return large_m(x, weight)
    # A row's bits depend on how many there are, and where it begins: so few go one by one.
    rows = [F.linear(row[None].clone(), weight) for row in x.flatten(0, -2)]
    return torch.cat(rows).view(*x.shape[:-1], -1)


def is_small_m(x: Tensor, weight: Tensor) -> bool:
    """Whether `x` is a few float32 rows on a CPU, and nobody wants a gradient."""
    few = x.dim() > 1 and 1 < x.shape[:-1].numel() <= SMALL_M
    grad = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return few and x.device.type == "cpu" and x.dtype == torch.float32 and not grad


def large_m(x: Tensor, weight: Tensor) -> Tensor:
    """The product of however many rows at once."""
    if _is_known(x, weight) and not gradients.wanted(x, weight):
        return onednn.linear(x, weight)
    return F.linear(x, weight)


def _is_known(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN has the product; a single row, or a few, are left to who reads them faster."""
    many = x.shape[:-1].numel() > SMALL_M and weight.is_contiguous()
    plain = x.dtype == torch.float32 and not torch.is_autocast_enabled(x.device.type)
    return many and plain and onednn.can_prepack(weight)
