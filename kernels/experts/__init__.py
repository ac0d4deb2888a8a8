import torch
from torch import Tensor

from kernels.experts import grouped, naive
from kernels.registry import Registry

REGISTRY = Registry[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]("experts")
REGISTRY.add(
    "grouped",
    grouped.experts,
    devices=("cpu", "cuda"),
    dtypes=(torch.float32, torch.bfloat16, torch.float16),
)
REGISTRY.add("naive", naive.experts, devices=("cpu", "cuda"), dtypes=(torch.float64,))
