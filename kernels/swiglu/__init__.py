import torch
from torch import Tensor

from kernels.registry import Registry
from kernels.swiglu import jit, naive, plain

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)

REGISTRY = Registry[[Tensor], Tensor]("swiglu")
REGISTRY.add("jit", jit.swiglu, devices=("cpu",), dtypes=_FLOATS)
REGISTRY.add("plain", plain.swiglu, devices=("cpu", "cuda"), dtypes=_FLOATS)
REGISTRY.add("naive", naive.swiglu, devices=("cpu", "cuda"), dtypes=(torch.float64,))
