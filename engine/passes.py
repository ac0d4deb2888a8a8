"""One pass over the layers for the next tokens of several contexts, so that it reads weights once.

Contexts do not meet in a product: each has its own rows, on its own grid, so its hidden states and
final states are bit by bit those it would have alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.model import LayerState, Model
from engine.prefill import grid

Chunk = tuple[int, Tensor]  # position reached, hidden [t, D]
OnChunk = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Stretch:
    """The tokens that one context reads next, and its states, which move on by them.

    `on_chunk` is as in `layer_major`.
    """

    states: Sequence[LayerState]
    token_ids: Sequence[int]
    start: int
    chunk_tokens: int
    on_chunk: OnChunk | None = None

    def borders(self) -> Iterator[tuple[int, int]]:
        """First and last position of each chunk."""
        return grid(self.start, self.start + len(self.token_ids), self.chunk_tokens)

    def embed(self, model: Model, first: int, last: int) -> Tensor:
        """The embedding [t, D] of the tokens at these positions."""
        ids = self.token_ids[first - self.start : last - self.start]
        return F.embedding(torch.tensor(ids, device=model.device), model.embed.weight)


@torch.inference_mode()
def by_layer(model: Model, stretches: Sequence[Stretch]) -> list[list[Chunk]]:
    """What `chunk_major` yields for each of `stretches`, bit by bit, with one pass over the layers.

    Hidden states are kept in memory until the end: all tokens of all stretches.
    """
    hidden = [[one.embed(model, *border) for border in one.borders()] for one in stretches]
    for index, layer in enumerate(model.each_layer(sum(map(len, hidden)))):
        for stretch, rows in zip(stretches, hidden, strict=True):
            for number, (first, last) in enumerate(stretch.borders()):
                rows[number] = layer(rows[number], stretch.states[index], first)
                if stretch.on_chunk is not None:
                    stretch.on_chunk(index, last)
    return [
        [(last, row) for (_, last), row in zip(stretch.borders(), rows, strict=True)]
        for stretch, rows in zip(stretches, hidden, strict=True)
    ]
