import torch
from torch import Tensor

from kernels.lightning import chunked, naive
from kernels.registry import Registry

REGISTRY = Registry[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]("lightning")
REGISTRY.add(
    "chunked",
    chunked.lightning_attention,
    devices=("cpu", "cuda"),
    dtypes=(torch.float32, torch.bfloat16, torch.float16),
)
REGISTRY.add("naive", naive.lightning_attention, devices=("cpu", "cuda"), dtypes=(torch.float64,))
