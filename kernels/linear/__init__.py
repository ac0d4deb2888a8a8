import torch

from kernels.linear import dense, naive, packed
from kernels.registry import Registry

REGISTRY = Registry[[torch.Tensor, torch.Tensor], torch.Tensor]("linear")
REGISTRY.add(
    "dense",
    dense.linear,
    devices=("cpu", "cuda"),
    dtypes=(torch.float32, torch.bfloat16, torch.float16),
)
REGISTRY.add("packed", packed.linear, devices=("cpu",), dtypes=(torch.float32,))
REGISTRY.add("naive", naive.linear, devices=("cpu", "cuda"), dtypes=(torch.float64,))
