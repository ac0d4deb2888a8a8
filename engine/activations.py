"""The hidden states of a whole context between two layers: in memory, or in a spill file."""

import os
import tempfile
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor


class ActivationBuffer(Protocol):
    """What stands between two layers while a whole context passes through one after the other."""

    @property
    def first_layer(self) -> int:
        """The first layer that is still to be run; states of earlier ones are at the end."""
        ...

    def get(self, first: int, last: int) -> Tensor:
        """Rows first .. last - 1 of what went into the last `turn`; safe until a `put` there."""
        ...

    def put(self, first: int, hidden: Tensor) -> None:
        """`hidden` [t, D] from row `first` on; rows come in order, behind a `get` of the same."""
        ...

    def after_chunk(self, layer: int, reached: int) -> None:
        """The state of `layer` stands at position `reached`."""
        ...

    def swap(self, num_layers: int) -> None:
        """So many layers are done (0: only the embedding), and all rows were put."""
        ...


class Activations:
    """[num_tokens, width] of `dtype`, in memory, or as pages of `file`, which is made or grown.

    Rows of a file are the system's to write back and forget, so memory stays bounded; its room is
    taken at once. Raises OSError if the disk has none.
    """

    first_layer = 0

    def __init__(
        self, num_tokens: int, width: int, dtype: torch.dtype, file: Path | None = None
    ) -> None:
        self._rows: Tensor
        if file is None:
            self._rows = torch.empty(num_tokens, width, dtype=dtype)
        else:
            count = num_tokens * width
            allocate(file, count * dtype.itemsize)
            flat = torch.from_file(str(file), shared=True, size=count, dtype=dtype)
            self._rows = flat.view(num_tokens, width)

    @classmethod
    def spilled(
        cls, num_tokens: int, width: int, dtype: torch.dtype, folder: Path
    ) -> "Activations":
        """In a file in `folder` that has no name any more: it goes with these activations, or with
        the process however that ends."""
        descriptor, name = tempfile.mkstemp(prefix="mm1-activations-", dir=folder)
        os.close(descriptor)
        try:
            return cls(num_tokens, width, dtype, Path(name))
        finally:
            Path(name).unlink()

    def get(self, first: int, last: int) -> Tensor:
        """Rows first .. last - 1, on the CPU: a view, which the next `put` there changes."""
        return self._rows[first:last]

    def put(self, first: int, hidden: Tensor) -> None:
        """`hidden` [t, D] from row `first` on."""
        self._rows[first : first + len(hidden)].copy_(hidden)

    def after_chunk(self, layer: int, reached: int) -> None:
        pass

    def swap(self, num_layers: int) -> None:
        pass

    @property
    def num_bytes(self) -> int:
        return self._rows.nbytes


def allocate(file: Path, num_bytes: int) -> None:
    """Makes `file` so long and takes its room on the disk, so that no page of it can lack one.

    Raises OSError if there is none.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        os.ftruncate(descriptor, num_bytes)
        if num_bytes and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, num_bytes)
    finally:
        os.close(descriptor)
