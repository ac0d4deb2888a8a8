"""Layers split over several devices: each device has a stage, a run of neighbouring layers.

A chunk takes as long on a stage as its layers take, and a pipeline is as fast as its slowest stage.
So the split makes the slowest stage as fast as it can be among the splits that fit. Devices are
taken to be equally fast.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one layer: the bytes it and its states take, and the operations of a prefill."""

    num_bytes: int
    flops: int


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be split. `before` the first layer and `behind` the last one stand the embedding
    and the head, `beside` each stage's layers the activations of a chunk; all in bytes."""

    layers: tuple[Cost, ...]
    before: int = 0
    behind: int = 0
    beside: int = 0

    def num_bytes(self, first: int, last: int) -> int:
        """What the stage of layers `first` .. `last` - 1 holds."""
        total = self.beside + sum(layer.num_bytes for layer in self.layers[first:last])
        total += self.before if first == 0 else 0
        return total + (self.behind if last == len(self.layers) else 0)

    def flops(self, first: int, last: int) -> int:
        return sum(layer.flops for layer in self.layers[first:last])


def split(load: Load, rooms: Sequence[int]) -> list[tuple[int, int]]:
    """Layers [first, last) for each device, in the order of the devices, none without a layer.

    `rooms` are the devices' bytes; devices beyond the number of layers stay empty. Of the splits
    that fit it gives one whose slowest stage is fastest; where none fits one that is even, of which
    the sums tell.
    """
    num_layers = len(load.layers)
    rooms = rooms[:num_layers]
    # slowest[n]: the best that the stages so far can do with the first n layers; and how.
    slowest = [0.0] + [inf] * num_layers
    cuts: list[list[int]] = []
    for room in rooms:
        longer, cut = [inf] * (num_layers + 1), [0] * (num_layers + 1)
        for last in range(1, num_layers + 1):
            for first in range(last):
                if slowest[first] == inf or load.num_bytes(first, last) > room:
                    continue
                worst = max(slowest[first], load.flops(first, last))
                if worst < longer[last]:
                    longer[last], cut[last] = worst, first
        slowest = longer
        cuts.append(cut)
    borders = [num_layers]
    if slowest[-1] == inf:
        borders = [num_layers * index // len(rooms) for index in range(len(rooms) + 1)]
        return list(pairwise(borders))
    for cut in reversed(cuts):
        borders.append(cut[borders[-1]])
    borders.reverse()
    return list(pairwise(borders))
