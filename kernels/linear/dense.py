"""Matmuls with plain weights, where they lie.

Large M in float32 on a CPU goes through oneDNN, as packed weights do: it needs no copy of the
weight, is up to 1.7 times as fast as MKL where M is small for the width (64 rows, 9216 wide), and
gives a row the same bits at any large M, and however the weight's rows are cut into several. Code
is compiled and kept for each M: callers who can, round it up.
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
    # A row's bits depend on M, and where it begins: so at small M they go one by one.
    rows = [F.linear(row[None].clone(), weight) for row in x.flatten(0, -2)]
    return torch.cat(rows).view(*x.shape[:-1], -1)


def is_small_m(x: Tensor, weight: Tensor) -> bool:
    """Whether `x` is float32 of small M > 1 on a CPU, and nobody wants a gradient."""
    few = x.dim() > 1 and 1 < x.shape[:-1].numel() <= SMALL_M
    grad = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return few and x.device.type == "cpu" and x.dtype == torch.float32 and not grad


def large_m(x: Tensor, weight: Tensor) -> Tensor:
    """The matmul at once, whatever M is."""
    if _is_known(x, weight) and not gradients.wanted(x, weight):
        return onednn.linear(x, weight)
    return F.linear(x, weight)


def _is_known(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN has the matmul; small M is left to who reads the weight faster."""
    many = x.shape[:-1].numel() > SMALL_M and weight.is_contiguous()
    plain = x.dtype == torch.float32 and not torch.is_autocast_enabled(x.device.type)
    return many and plain and onednn.can_prepack(weight)
