import torch
from torch import Tensor

from kernels.geglu import naive, plain
from kernels.registry import Registry

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)

REGISTRY = Registry[[Tensor], Tensor]("geglu")
REGISTRY.add("plain", plain.geglu, devices=("cpu", "cuda"), dtypes=_FLOATS)
REGISTRY.add("naive", naive.geglu, devices=("cpu", "cuda"), dtypes=(torch.float64,))
