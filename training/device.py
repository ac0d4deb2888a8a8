"""Where a stage runs and how precisely it multiplies.

Weights, optimizer, norms, states, scores and losses are float32 everywhere. On a GPU the products
of the layers are bfloat16 (autocast), those of the head TF32.
"""

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
import torch.utils.deterministic as deterministic

from engine.layers.mlp import DenseMLP
from engine.layers.norm import RMSNorm
from engine.model import Model

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Place:
    device: torch.device
    products: torch.dtype = torch.float32

    @classmethod
    def choose(cls, device: str | None, precision: str | None) -> "Place":
        """As asked for; by default the GPU if there is one, and bfloat16 there.

        Raises ValueError if there is no such device.
        """
        has_gpu = torch.cuda.is_available()
        name = device or ("cuda" if has_gpu else "cpu")
        if name == "cuda" and not has_gpu:
            raise ValueError("no CUDA device here; use --device cpu")
        default = "bfloat16" if name == "cuda" else "float32"
        return cls(torch.device(name), PRECISIONS[precision or default])

    def autocast(self) -> AbstractContextManager[object]:
        enabled = self.products is not torch.float32
        dtype = self.products if enabled else None
        return torch.autocast(self.device.type, dtype, enabled=enabled)

    def settle(self) -> None:
        """Sets what is one setting for the whole process; to be called before any work there.

        Kernels that add in any order are avoided where PyTorch has others.
        """
        if self.device.type == "cuda":
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.set_float32_matmul_precision("high")
            torch.use_deterministic_algorithms(True, warn_only=True)
            setattr(deterministic, "fill_uninitialized_memory", False)  # noqa: B010


def compile_layers(model: Model) -> None:
    """Lets PyTorch fuse the steps inside norms and MLPs; the first steps are slow.

    These hold no state, so what is compiled for one layer serves them all.
    """
    for module in model.modules():
        if isinstance(module, RMSNorm | DenseMLP):
            module.compile()
