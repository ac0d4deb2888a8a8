"""Where the keys and values of a cache lie: what a kernel needs to read blocks from anywhere.

A cache grows by blocks that are not neighbours in memory. A kernel gets one int64 row per segment,
so the whole cache is one launch, whatever the number of blocks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.attention.int8 import Int8Tensor, Rows, Segments

# Columns: position of the first key; then for keys and for values the address of the rows, their
# elements per token and per head, and the same for the scales (0 where there are none).
NUM_COLUMNS = 13
_ALIGNED_BYTES = 16  # one load of one thread
_MOST_TOKENS_OF_A_TILE = 128


@dataclass(frozen=True, slots=True)
class BlockTable:
    """`rows` [num_segments + 1, 13] int64 on the device; the last row only tells where all ends.

    Holds the tensors it points into: addresses alone keep nothing alive.
    """

    rows: Tensor
    num_segments: int
    num_keys: int
    num_kv_heads: int
    is_int8: bool
    held: tuple[Rows, ...]

    @classmethod
    def of(cls, segments: Segments, dtype: torch.dtype) -> "BlockTable":
        """Raises ValueError where the rows are neither all int8 nor all of `dtype`."""
        kinds = {_dtype(rows) for pair in segments for rows in pair}
        if kinds not in ({torch.int8}, {dtype}):
            names = ", ".join(sorted(map(str, kinds)))
            raise ValueError(
                f"attention: keys and values are {names}; expected one of {dtype}, int8"
            )
        lines, held, start = [], [], 0
        for pair in segments:
            line = [start]
            for rows in map(_aligned, pair):
                held.append(rows)
                line += _place(rows)
            lines.append(line)
            start += pair[0].shape[0]
        lines.append([start] + [0] * (NUM_COLUMNS - 1))
        first = held[0]
        device = (first.values if isinstance(first, Int8Tensor) else first).device
        rows = torch.tensor(lines, dtype=torch.int64)
        return cls(
            rows=rows.to(device, non_blocking=True),
            num_segments=len(segments),
            num_keys=start,
            num_kv_heads=first.shape[1],
            is_int8=kinds == {torch.int8},
            held=tuple(held),
        )


def _dtype(rows: Rows) -> torch.dtype:
    return torch.int8 if isinstance(rows, Int8Tensor) else rows.dtype


def _place(rows: Rows) -> list[int]:
    if isinstance(rows, Int8Tensor):
        return [*_place(rows.values)[:3], *_place(rows.scales)[:3]]
    return [rows.data_ptr(), rows.stride(0), rows.stride(1), 0, 0, 0]


def _aligned(rows: Rows) -> Rows:
    """`rows`, or a copy where a row does not start at a multiple of 16 bytes or a kernel's tile
    of tokens reaches beyond int32."""
    x = rows.values if isinstance(rows, Int8Tensor) else rows
    starts = (x.data_ptr(), x.stride(0) * x.itemsize, x.stride(1) * x.itemsize)
    aligned = x.stride(2) == 1 and not any(start % _ALIGNED_BYTES for start in starts)
    if aligned and x.stride(0) * _MOST_TOKENS_OF_A_TILE < 2**31:
        return rows
    if isinstance(rows, Int8Tensor):
        return Int8Tensor(x.clone(memory_format=torch.contiguous_format), rows.scales)
    return x.clone(memory_format=torch.contiguous_format)
