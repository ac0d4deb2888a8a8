import torch
from torch import Tensor

from kernels.norm import jit, naive, plain
from kernels.registry import HAS_TRITON, Registry, on_first_call

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)

REGISTRY = Registry[[Tensor, Tensor, float, int], Tensor]("rms_norm")
SUM_REGISTRY = Registry[[Tensor, Tensor, float, float, Tensor, float], tuple[Tensor, Tensor]](
    "rms_norm_of_sum"
)
if HAS_TRITON:
    _MODULE = "kernels.norm.triton"
    REGISTRY.add("triton", on_first_call(_MODULE, "rms_norm"), devices=("cuda",), dtypes=_FLOATS)
    SUM_REGISTRY.add(
        "triton", on_first_call(_MODULE, "rms_norm_of_sum"), devices=("cuda",), dtypes=_FLOATS
    )
REGISTRY.add("jit", jit.rms_norm, devices=("cpu",), dtypes=_FLOATS)
REGISTRY.add("plain", plain.rms_norm, devices=("cpu", "cuda"), dtypes=_FLOATS)
REGISTRY.add("naive", naive.rms_norm, devices=("cpu", "cuda"), dtypes=(torch.float64,))
SUM_REGISTRY.add("jit", jit.rms_norm_of_sum, devices=("cpu",), dtypes=_FLOATS)
SUM_REGISTRY.add("plain", plain.rms_norm_of_sum, devices=("cpu", "cuda"), dtypes=_FLOATS)
SUM_REGISTRY.add("naive", naive.rms_norm_of_sum, devices=("cpu", "cuda"), dtypes=(torch.float64,))
