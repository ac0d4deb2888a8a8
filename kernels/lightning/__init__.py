import torch
from torch import Tensor

from kernels.lightning import blocked, chunked, dense, jit, naive
from kernels.registry import HAS_TRITON, Registry, on_first_call

_HALF_OR_SINGLE = (torch.float32, torch.bfloat16, torch.float16)
_Norm = tuple[Tensor, Tensor, float] | None
_Rope = tuple[Tensor, Tensor] | None

REGISTRY = Registry[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]("lightning")
STATE = Registry[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]("lightning_state")
INPUTS = Registry[[Tensor, int, bool, _Norm, _Rope, float, int], tuple[Tensor, Tensor, Tensor]](
    "lightning_inputs"
)
OUTPUT = Registry[[Tensor, Tensor, Tensor, float, int], Tensor]("lightning_output")

if HAS_TRITON:
    _TRITON = "kernels.lightning.triton"
    for _registry, _name in (
        (REGISTRY, "lightning_attention"),
        (STATE, "lightning_state"),
        (INPUTS, "lightning_inputs"),
        (OUTPUT, "lightning_output"),
    ):
        _registry.add(
            "triton",
            on_first_call(_TRITON, _name),
            devices=("cuda",),
            dtypes=_HALF_OR_SINGLE,
        )

_ANYWHERE = ("cpu", "cuda")
REGISTRY.add("jit", jit.lightning_attention, devices=("cpu",), dtypes=_HALF_OR_SINGLE)
STATE.add("jit", jit.lightning_state, devices=("cpu",), dtypes=_HALF_OR_SINGLE)
REGISTRY.add("blocked", blocked.lightning_attention, devices=("cpu",), dtypes=_HALF_OR_SINGLE)
REGISTRY.add("chunked", chunked.lightning_attention, devices=_ANYWHERE, dtypes=_HALF_OR_SINGLE)
STATE.add("chunked", chunked.lightning_state, devices=_ANYWHERE, dtypes=_HALF_OR_SINGLE)
INPUTS.add("dense", dense.lightning_inputs, devices=_ANYWHERE, dtypes=_HALF_OR_SINGLE)
OUTPUT.add("dense", dense.lightning_output, devices=_ANYWHERE, dtypes=_HALF_OR_SINGLE)

_DOUBLE = (torch.float64,)
REGISTRY.add("naive", naive.lightning_attention, devices=_ANYWHERE, dtypes=_DOUBLE)
STATE.add("naive", naive.lightning_state, devices=_ANYWHERE, dtypes=_DOUBLE)
INPUTS.add("naive", naive.lightning_inputs, devices=_ANYWHERE, dtypes=_DOUBLE)
OUTPUT.add("naive", naive.lightning_output, devices=_ANYWHERE, dtypes=_DOUBLE)
