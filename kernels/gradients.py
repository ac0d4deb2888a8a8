"""Where a gradient is wanted, kernels without a backward pass hand over to their torch form."""

import torch
from torch import Tensor


def wanted(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)
