"""Matmuls with weights in oneDNN's blocked layout: on CPUs twice as fast at small M.

Packing happens once, when weights are loaded; a packed weight has no gradient.
"""

import torch
from torch import Tensor

_TYPICAL_M = 512  # a prefill chunk; the layout serves M = 1 as well


def can_prepack(weight: Tensor) -> bool:
    """Whether `weight` is a float32 matrix on a CPU that oneDNN knows."""
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
    known = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return on_cpu and weight.dim() == 2 and known


def prepack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _TYPICAL_M)
    return packed


def linear(x: Tensor, weight: Tensor) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x.float(), weight, None, "none", [], "")
    return out.to(x.dtype)  # under autocast activations are bfloat16; a packed weight never is
