import torch
from torch import Tensor

from kernels.ggml import GgmlWeight
from kernels.linear import int8_rows
from kernels.quantized import StackedWeight, Weight, dequantized


def linear(x: Tensor, weight: Weight) -> Tensor:
    if isinstance(weight, StackedWeight):
        return torch.cat([linear(x, part) for part in weight.parts], dim=1)
    if isinstance(weight, GgmlWeight) and weight.has_int8_rows:
        x = int8_rows.rounded(x)
    return x.double() @ dequantized(weight, torch.float64).T
