"""A model whose layers lie on several devices, in stages of neighbouring layers."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from engine.config import ModelConfig
from engine.model import Model, StepState


class Stage(NamedTuple):
    """Layers `first` .. `last` - 1. Several stages may lie on one device."""

    first: int
    last: int
    device: torch.device


class StagedModel(Model):
    """A model whose layers lie on the devices of `stages`: the embedding on the first, norm and
    head on the last."""

    def __init__(self, config: ModelConfig, stages: Sequence[Stage]) -> None:
        super().__init__(config)
        self.stages = tuple(stages)

    @property
    def is_staged(self) -> bool:
        return True

    def device_of(self, layer: int) -> torch.device:
        return next(s.device for s in self.stages if s.first <= layer < s.last)

    def place_of(self, parameter: str) -> torch.device:
        """Where the parameter of that name belongs."""
        if parameter.startswith("layers."):
            return self.device_of(int(parameter.split(".")[1]))
        return self.stages[0 if parameter.startswith("embed.") else -1].device

    def forward(
        self, token_ids: Tensor, states: Sequence[StepState], start: int | Tensor
    ) -> Tensor:
        """See `Model.forward`: one stage after the other, on the thread that calls."""
        hidden = self.embedded(token_ids)
        for stage in self.stages:
            hidden = self.run(stage, hidden, states[stage.first : stage.last], start)
        return hidden

    def run(
        self, stage: Stage, hidden: Tensor, states: Sequence[StepState], start: int | Tensor
    ) -> Tensor:
        """`hidden` [T, D] of the stage before, through the layers of `stage`, whose `states` those
        are."""
        if stage.first > 0:
            hidden = send(hidden, stage.device)
        with _on(stage.device):
            layers = list(self.layers)[stage.first : stage.last]
            for layer, state in zip(layers, states, strict=True):
                hidden = layer(hidden, state, start)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        with _on(hidden.device):
            return super().logits(hidden)

    def suppressed_ids(self) -> Tensor:
        """See `Model.suppressed_ids`; it lies where logits do."""
        return super().suppressed_ids().to(self.head_device)


def send(hidden: Tensor, device: torch.device) -> Tensor:
    """All that ever passes from one stage to the next."""
    return hidden.to(device, non_blocking=True)


def _on(device: torch.device) -> AbstractContextManager[object]:
    # Kernels of ours are launched on the current device, whatever their tensors are on.
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
