from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import torch

from kernels.quantized import Weight


class ExpertStack(ABC):
    """The weights [N, O, I] of N experts that are fetched when they are indexed.

    What an index gives is good until another expert's is asked for, of this stack or of one that
    belongs to the same layer.
    """

    @abstractmethod
    def __getitem__(self, expert: int) -> Weight:
        """[O, I]. May wait for a disk, and raise what reading raises."""

    def to(self, device: torch.device) -> Self:  # noqa: ARG002
        """On `device`; those that are fetched come where they are used anyway."""
        return self

    @abstractmethod
    def hint(self, experts: Sequence[int]) -> None:
        """These will be indexed next, in this order, and no others before them."""
