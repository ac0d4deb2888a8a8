import torch

from kernels.linear import dense, dequantize_blocks, jit, naive, onednn
from kernels.quantized import QuantizedWeight
from kernels.registry import HAS_TRITON, Registry, on_first_call

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)

REGISTRY = Registry[[torch.Tensor, torch.Tensor], torch.Tensor]("linear")
REGISTRY.add("dense", dense.linear, devices=("cpu", "cuda"), dtypes=_FLOATS)
REGISTRY.add("onednn", onednn.linear, devices=("cpu",), dtypes=(torch.float32,))
REGISTRY.add("naive", naive.linear, devices=("cpu", "cuda"), dtypes=(torch.float64,))

QUANTIZED = Registry[[torch.Tensor, QuantizedWeight], torch.Tensor]("linear of quantised weights")
if HAS_TRITON:
    _by_triton = on_first_call("kernels.linear.triton", "linear")
    QUANTIZED.add("triton", _by_triton, devices=("cuda",), dtypes=_FLOATS)
QUANTIZED.add("jit", jit.linear, devices=("cpu",), dtypes=_FLOATS)
QUANTIZED.add("blocks", dequantize_blocks.linear, devices=("cpu", "cuda"), dtypes=_FLOATS)
QUANTIZED.add("naive", naive.linear, devices=("cpu", "cuda"), dtypes=(torch.float64,))
