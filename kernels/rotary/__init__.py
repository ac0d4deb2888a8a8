import torch
from torch import Tensor

from kernels.registry import Registry
from kernels.rotary import jit, naive, plain

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)

REGISTRY = Registry[[Tensor, Tensor, Tensor], Tensor]("rotate")
REGISTRY.add("jit", jit.rotate, devices=("cpu",), dtypes=_FLOATS)
REGISTRY.add("plain", plain.rotate, devices=("cpu", "cuda"), dtypes=_FLOATS)
REGISTRY.add("naive", naive.rotate, devices=("cpu", "cuda"), dtypes=(torch.float64,))
