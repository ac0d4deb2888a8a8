"""The weights of a model part by part: what is read, held or left on disk as one."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from math import prod

import torch

from engine.config import ModelConfig
from engine.model import Model
from engine.quantization import is_matrix as is_matrix

Shape = tuple[int, ...]
BytesOf = Callable[[str, Shape], int]

_INT4_GROUP = 64
_ALIGNMENT = 64


class Precision(StrEnum):
    """What the layers' matrices are in; embedding, norms, router and head stay as they are."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"
    INT4 = "int4"

    @property
    def is_quantised(self) -> bool:
        return self in {Precision.INT8, Precision.INT4}

    def matrix_bytes(self, shape: Shape) -> int:
        """Of [..., O, I] with its scales (int8: one per row; int4: groups of 64 with offsets)."""
        count = prod(shape)
        if self is Precision.INT8:
            return count + 4 * count // shape[-1]
        if self is Precision.INT4:
            return count // 2 + 4 * (count // shape[-1]) * -(-shape[-1] // _INT4_GROUP)
        return count * (4 if self is Precision.FLOAT32 else 2)


@dataclass(frozen=True, slots=True)
class LayerParts:
    """Bytes of one layer: its dense part (mixer, norms, router, shared expert) and each expert."""

    dense_bytes: int
    expert_bytes: int
    num_experts: int

    @property
    def total_bytes(self) -> int:
        return self.dense_bytes + self.num_experts * self.expert_bytes

    @property
    def largest_bytes(self) -> int:
        return max(self.dense_bytes, self.expert_bytes)


@dataclass(frozen=True, slots=True)
class ModelParts:
    """Bytes of what is always in memory (embedding, final norm, head) and of each layer."""

    fixed_bytes: int
    layers: tuple[LayerParts, ...]

    @property
    def layers_bytes(self) -> int:
        return sum(layer.total_bytes for layer in self.layers)

    @property
    def total_bytes(self) -> int:
        return self.fixed_bytes + self.layers_bytes

    @property
    def dense_bytes(self) -> int:
        return sum(layer.dense_bytes for layer in self.layers)

    @property
    def experts_bytes(self) -> int:
        return self.layers_bytes - self.dense_bytes

    def active_bytes(self, chosen: int) -> int:
        """What one token needs of the layers, `chosen` experts in each."""
        return sum(
            layer.dense_bytes + min(chosen, layer.num_experts) * layer.expert_bytes
            for layer in self.layers
        )


def pooled_bytes(num_bytes: int) -> int:
    """What a tensor of an expert takes in a pool, where each begins at a multiple of 64."""
    return -(-num_bytes // _ALIGNMENT) * _ALIGNMENT


def shapes(config: ModelConfig) -> dict[str, Shape]:
    """Every parameter of the model by our name. Allocates nothing."""
    with torch.device("meta"):
        model = Model(config)
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def of_model(config: ModelConfig, found: dict[str, Shape], bytes_of: BytesOf) -> ModelParts:
    """`found` parts of the model, each tensor as large as `bytes_of(name, shape)` says."""
    fixed = 0
    dense, experts = [0] * config.num_layers, [0] * config.num_layers
    for name, shape in found.items():
        size = bytes_of(name, shape)
        if not name.startswith("layers."):
            fixed += size
            continue
        index = int(name.split(".")[1])
        if len(shape) == 3:  # [experts, out, in]
            experts[index] += size
        else:
            dense[index] += size
    layers = tuple(
        LayerParts(dense[index], experts[index] // max(config.num_experts, 1), config.num_experts)
        for index in range(config.num_layers)
    )
    return ModelParts(fixed, layers)
