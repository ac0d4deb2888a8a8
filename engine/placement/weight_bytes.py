"""The weights of a model part by part: what is read, held or left on disk as one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from math import prod
from typing import Self

import torch

from engine.config import ModelConfig
from engine.model import Model
from engine.quantized.forms import UNQUANTIZED, Form, Quantization
from engine.quantized.forms import is_matrix as is_matrix
from kernels.linear import fp16_weight

Shape = tuple[int, ...]
BytesOf = Callable[[str, Shape], int]

PAGE_BYTES = 4096  # or a multiple: what files are read in past the system's page cache
ALIGNMENT = 64  # a cache line
_LARGE_BYTES = 8 << 20
_ROUTERS = ("router", "router_bias")


class Precision(StrEnum):
    """What a checkpoint's plain matrices and its embedding are stored in, of any kind so wide."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"

    @classmethod
    def of(cls, dtype: torch.dtype) -> Self:
        return cls("float32" if dtype.itemsize > 2 else "bfloat16")

    @property
    def item_bytes(self) -> int:
        return 4 if self is Precision.FLOAT32 else 2

    def stored_bytes(self, config: ModelConfig, name: str, shape: Shape) -> int:
        """Of a parameter, or of some of its rows, in a checkpoint; routers are float32 there."""
        if config.quantization.form_of(name) is not Form.PLAIN:
            return config.quantization.num_bytes(name, prod(shape[:-1]), shape[-1])
        return prod(shape) * (4 if name.endswith(_ROUTERS) else self.item_bytes)


def with_quantization(config: ModelConfig, form: Form) -> ModelConfig:
    """The model after `quantize` to `form`, whatever its matrices are in."""
    widths = {name: shape[-1] for name, shape in shapes(config).items()}
    return replace(config, quantization=Quantization.fitting(form, widths))


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

    def active_bytes(self, chosen: int) -> int:
        """What one token needs, `chosen` experts among it."""
        return self.dense_bytes + min(chosen, self.num_experts) * self.expert_bytes


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
        return sum(layer.active_bytes(chosen) for layer in self.layers)

    def least_cache_bytes(self, chosen: int) -> int:
        """Room to run any layer: its dense part and the experts of one token."""
        return max(layer.active_bytes(chosen) for layer in self.layers)

    @property
    def enough_cache_bytes(self) -> int:
        """Room to read each weight once however many chunks there are: a layer, and the part of
        the next one that is being read."""
        return max(layer.total_bytes + layer.largest_bytes for layer in self.layers)


def is_large(num_bytes: int) -> bool:
    """Whether a tensor is worth being read past the system's page cache."""
    return num_bytes >= _LARGE_BYTES


def pooled_bytes(num_bytes: int) -> int:
    """What a tensor of an expert takes in a pool, where each begins at a multiple of 64, and large
    ones as far behind a page's border as in their file."""
    moved = 2 * PAGE_BYTES if is_large(num_bytes) else 0
    return -(-num_bytes // ALIGNMENT) * ALIGNMENT + moved


def shapes(config: ModelConfig) -> Mapping[str, Shape]:
    """Every parameter of the model by our name. Allocates nothing."""
    return _shapes(replace(config, quantization=UNQUANTIZED))


@lru_cache(maxsize=4)
def _shapes(config: ModelConfig) -> Mapping[str, Shape]:
    with torch.device("meta"):
        model = Model(config)
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def of_model(config: ModelConfig, found: Mapping[str, Shape], bytes_of: BytesOf) -> ModelParts:
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
    counts = [config.num_experts * config.has_experts(index) for index in range(config.num_layers)]
    layers = tuple(
        LayerParts(dense[index], experts[index] // max(count, 1), count)
        for index, count in enumerate(counts)
    )
    return ModelParts(fixed, layers)


def fp16_copies_bytes(config: ModelConfig, memory_bytes: int) -> int:
    """Bytes of float16 copies of the matrices, which speed up decoding; 0 where there is no room.

    A question of the model and of a machine's `memory_bytes`, not of what is free just now: the
    same run is to write the same text tomorrow. Where experts are most of the weights, copies of
    the rest gain little, and a streamed model, which has none, is to write the same.
    """
    if config.num_experts or config.quantization.blocks or not fp16_weight.is_usable():
        return 0
    found = shapes(config)
    sizes = [
        prod(shape)
        for name, shape in found.items()
        if len(shape) == 2 and is_matrix(name) and config.quantization.form_of(name) is Form.PLAIN
    ]
    copies = 2 * (sum(sizes) + config.vocab_size * config.hidden_size)
    resident = sum(
        Precision.FLOAT32.stored_bytes(config, name, shape) for name, shape in found.items()
    )
    has_room = resident + copies <= memory_bytes / 2
    return copies if has_room else 0
