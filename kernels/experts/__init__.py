import torch
from torch import Tensor

from kernels.experts import grouped, naive
from kernels.experts.stack import ExpertStack as ExpertStack
from kernels.quantized import Weight
from kernels.registry import HAS_TRITON, Registry, on_first_call

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)

REGISTRY = Registry[[Tensor, Tensor, Tensor, Weight | ExpertStack, Weight | ExpertStack], Tensor](
    "experts"
)
if HAS_TRITON:
    _by_triton = on_first_call("kernels.experts.triton", "experts")
    REGISTRY.add("triton", _by_triton, devices=("cuda",), dtypes=_FLOATS)
REGISTRY.add("grouped", grouped.experts, devices=("cpu", "cuda"), dtypes=_FLOATS)
REGISTRY.add("naive", naive.experts, devices=("cpu", "cuda"), dtypes=(torch.float64,))
