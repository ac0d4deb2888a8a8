from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.attention import naive, sdpa, tiled
from kernels.registry import Registry

Segments = Sequence[tuple[Tensor, Tensor]]

REGISTRY = Registry[[Tensor, Segments, float, int | None, int], Tensor]("attention")
REGISTRY.add(
    "tiled",
    tiled.attention,
    devices=("cpu", "cuda"),
    dtypes=(torch.float32, torch.bfloat16, torch.float16),
)
REGISTRY.add(
    "sdpa",
    sdpa.attention,
    devices=("cpu", "cuda"),
    dtypes=(torch.float32, torch.bfloat16, torch.float16),
)
REGISTRY.add("naive", naive.attention, devices=("cpu", "cuda"), dtypes=(torch.float64,))
