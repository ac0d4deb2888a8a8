"""Attention over blocks that fill, for GPUs: `triton.py` with the count of keys on the device."""

from torch import Tensor

from kernels.attention import blocks
from kernels.attention.blocks import KeyBlocks
from kernels.attention.triton import HEAD_DIMS, attend


def attention(q: Tensor, keys: KeyBlocks, scale: float, window: int | None, sinks: int) -> Tensor:
    """The splits follow from the room there is, so a recorded launch serves until it is used up."""
    if q.shape[2] not in HEAD_DIMS:
        return blocks.attention(q, keys, scale, window, sinks)
    return attend(q, keys.table(q.dtype), scale, window, sinks)
