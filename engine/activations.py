"""The hidden states of a whole context between two layers: in memory, or in a spill file."""

import os
from pathlib import Path

import torch
from torch import Tensor


class Activations:
    """[num_tokens, width] of `dtype`, in memory, or as pages of `file`, which is made or grown.

    Rows of a file are the system's to write back and forget, so memory stays bounded; they are on
    disk for certain after `sync`.
    """

    def __init__(
        self, num_tokens: int, width: int, dtype: torch.dtype, file: Path | None = None
    ) -> None:
        self._rows: Tensor
        if file is None:
            self._rows = torch.empty(num_tokens, width, dtype=dtype)
        else:
            count = num_tokens * width
            with file.open("ab") as handle:
                handle.truncate(count * dtype.itemsize)
            flat = torch.from_file(str(file), shared=True, size=count, dtype=dtype)
            self._rows = flat.view(num_tokens, width)
        self._file = file

    def get(self, first: int, last: int) -> Tensor:
        """Rows first .. last - 1, on the CPU: a view, which the next `put` there changes."""
        return self._rows[first:last]

    def put(self, first: int, hidden: Tensor) -> None:
        """`hidden` [t, D] from row `first` on."""
        self._rows[first : first + len(hidden)].copy_(hidden)

    @property
    def num_bytes(self) -> int:
        return self._rows.nbytes

    def sync(self) -> None:
        """Returns when all rows are on disk; nothing to do in memory."""
        if self._file is not None:
            with self._file.open("rb+") as handle:
                os.fsync(handle.fileno())
