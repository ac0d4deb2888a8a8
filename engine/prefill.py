"""The prefill drivers over one kind of layer.

Chunk-major runs every layer for one chunk before the next chunk: weights must be at hand all the
time. Layer-major runs every chunk through one layer before the next layer: each weight is read once
however long the context is, and the hidden states of the whole context are kept in between.

One grid for every prefill: borders at multiples of the chunk size from position 0, so that a
context grown in several steps computes the same matmuls as one grown at once, and both drivers
give the same bits. A batch of contexts shares a layer-major pass; they do not meet in a matmul:
each has its own rows, so its hidden states and final states are bit by bit those it would have
alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.activations import ActivationBuffer
from engine.model import LayerState, Model


def grid(start: int, end: int, chunk_tokens: int) -> Iterator[tuple[int, int]]:
    """The chunks [first, last) that cover [start, end)."""
    while start < end:
        border = min((start // chunk_tokens + 1) * chunk_tokens, end)
        yield start, border
        start = border


def chunk_major(
    model: Model,
    states: list[LayerState],
    token_ids: Sequence[int],
    start: int,
    chunk_tokens: int,
) -> Iterator[tuple[int, Tensor]]:
    """Runs `token_ids` at positions from `start` on; yields (position reached, hidden [t, D]).

    After each yield every state stands at that position; between yields they do not agree.
    """
    for first, last in grid(start, start + len(token_ids), chunk_tokens):
        ids = torch.tensor(token_ids[first - start : last - start], device=model.device)
        yield last, model(ids, states, first)


def layer_major(
    model: Model,
    states: list[LayerState],
    token_ids: Sequence[int],
    start: int,
    chunk_tokens: int,
    *,
    between: ActivationBuffer | None = None,
    on_chunk: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Yields what `chunk_major` yields, bit by bit, but only once all states stand at the end.

    `between` holds the hidden states between two layers, by default the model's `activations`;
    layers before its `first_layer` are not touched. `on_chunk` gets the layer and the position
    reached in it, after every chunk of every layer; if it raises, what `between` was told stands.
    """
    end = start + len(token_ids)
    if between is None:
        between = model.activations(len(token_ids))
    done = between.first_layer
    if done == 0:
        for first, last in grid(start, end, chunk_tokens):
            ids = torch.tensor(token_ids[first - start : last - start], device=model.device)
            between.put(first - start, model.embedded(ids))
        between.swap(0)
    layers = model.each_layer(sum(1 for _ in grid(start, end, chunk_tokens)), done)
    for index, (layer, state) in enumerate(zip(layers, states[done:], strict=True), done):
        for first, last in grid(start, end, chunk_tokens):
            before = between.get(first - start, last - start).to(model.device)
            between.put(first - start, layer(before, state, first))
            between.after_chunk(index, last)
            if on_chunk is not None:
                on_chunk(index, last)
        between.swap(index + 1)
    for first, last in grid(start, end, chunk_tokens):
        yield last, between.get(first - start, last - start).to(model.device)


Chunk = tuple[int, Tensor]  # position reached, hidden [t, D]


OnChunk = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class PrefillRequest:
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
        return model.embedded(torch.tensor(ids, device=model.device))


@torch.inference_mode()
def layer_major_batch(model: Model, requests: Sequence[PrefillRequest]) -> list[list[Chunk]]:
    """What `chunk_major` yields for each of `requests`, bit by bit, with one pass over the layers.

    Hidden states are kept in memory until the end: all tokens of all requests.
    """
    hidden = [[one.embed(model, *border) for border in one.borders()] for one in requests]
    for index, layer in enumerate(model.each_layer(sum(map(len, hidden)))):
        for request, rows in zip(requests, hidden, strict=True):
            for number, (first, last) in enumerate(request.borders()):
                rows[number] = layer(rows[number], request.states[index], first)
                if request.on_chunk is not None:
                    request.on_chunk(index, last)
    return [
        [(last, row) for (_, last), row in zip(request.borders(), rows, strict=True)]
        for request, rows in zip(requests, hidden, strict=True)
    ]
