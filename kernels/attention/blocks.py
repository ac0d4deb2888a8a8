"""Keys and values in memory that is there before they are: what a recorded step can attend over."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kernels.attention import tiled
from kernels.attention.int8 import Rows, Segments

if TYPE_CHECKING:
    from kernels.attention.block_table import BlockTable


@dataclass(slots=True, eq=False)
class KeyBlocks:
    """`blocks` of keys and values [n, G, D] at fixed places, of which the first `num_keys` count.

    `num_keys` [1] int64 lies on their device. It may change, and the rows may be filled, between
    calls and by what is recorded in a CUDA graph: a kernel looks at both when it runs.
    """

    blocks: Segments
    num_keys: Tensor
    _table: "BlockTable | None" = field(default=None, init=False)

    @property
    def capacity(self) -> int:
        """Keys there is room for."""
        return sum(keys.shape[0] for keys, _ in self.blocks)

    def table(self, dtype: torch.dtype) -> "BlockTable":
        """Where the blocks lie, made once; ends at `num_keys` as of the work queued so far.

        Raises ValueError where a kernel would have to read a copy: it would miss later rows.
        """
        from kernels.attention.block_table import BlockTable

        if self._table is None:
            table = BlockTable.of(self.blocks, dtype)
            given = [rows for pair in self.blocks for rows in pair]
            if any(x is not y for x, y in zip(table.held, given, strict=True)):
                raise ValueError("attention: rows of a block do not start at multiples of 16 bytes")
            self._table = table
        # Blocks start where they start; those beyond the end start at or after it and are not read.
        self._table.rows[-1, :1].copy_(self.num_keys)
        return self._table


def attention(q: Tensor, keys: KeyBlocks, scale: float, window: int | None, sinks: int) -> Tensor:
    """The host reads how many keys there are."""
    return tiled.attention(q, _first(keys.blocks, int(keys.num_keys)), scale, window, sinks)


def _first(blocks: Segments, count: int) -> list[tuple[Rows, Rows]]:
    found = []
    for keys, values in blocks:
        if count <= 0:
            break
        found.append((keys[:count], values[:count]) if count < keys.shape[0] else (keys, values))
        count -= keys.shape[0]
    return found
