from functools import partial

import torch
from torch import Tensor

from kernels.delta import chunked, jit, naive, plain
from kernels.registry import Registry

_HALF_OR_SINGLE = (torch.float32, torch.bfloat16, torch.float16)
_ANYWHERE = ("cpu", "cuda")

REGISTRY = Registry[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]](
    "gated_delta"
)
STATE = Registry[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]("gated_delta_state")
CONVOLUTION = Registry[[Tensor, Tensor, Tensor | None, Tensor, bool], tuple[Tensor, Tensor]](
    "short_convolution"
)

_by_jit, _by_blocks = (
    partial(chunked.state_after, rule) for rule in (jit.gated_delta, chunked.gated_delta)
)
REGISTRY.add("jit", jit.gated_delta, devices=("cpu",), dtypes=_HALF_OR_SINGLE)
STATE.add(
    "jit", partial(chunked.state_after, jit.gated_delta), devices=("cpu",), dtypes=_HALF_OR_SINGLE
)
CONVOLUTION.add("jit", jit.short_convolution, devices=("cpu",), dtypes=_HALF_OR_SINGLE)
REGISTRY.add("chunked", chunked.gated_delta, devices=_ANYWHERE, dtypes=_HALF_OR_SINGLE)
STATE.add(
    "chunked",
    partial(chunked.state_after, chunked.gated_delta),
    devices=_ANYWHERE,
    dtypes=_HALF_OR_SINGLE,
)
CONVOLUTION.add("plain", plain.short_convolution, devices=_ANYWHERE, dtypes=_HALF_OR_SINGLE)

_DOUBLE = (torch.float64,)
REGISTRY.add("naive", naive.gated_delta, devices=_ANYWHERE, dtypes=_DOUBLE)
STATE.add("naive", naive.gated_delta_state, devices=_ANYWHERE, dtypes=_DOUBLE)
CONVOLUTION.add("naive", naive.short_convolution, devices=_ANYWHERE, dtypes=_DOUBLE)
