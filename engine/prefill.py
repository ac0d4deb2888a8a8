"""The prefill driver: chunk-major, every layer for one chunk before the next chunk.

One grid for every prefill: borders at multiples of the chunk size from position 0, so that a
context grown in several steps computes the same products as one grown at once.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

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
