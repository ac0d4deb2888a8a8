"""The hidden states of a whole context on disk: those a layer reads, and those it makes."""

from pathlib import Path

import torch
from torch import Tensor

from engine import authentic, durable
from engine.activations import Activations, allocate
from engine.errors import StoreError
from engine.store import tensors
from engine.store.partial_file import plain_file

_PIECE_BYTES = 16 * 2**20


class HiddenStateFiles:
    """[num_tokens, width] of `dtype` in two files of `folder`, which take turns.

    Behind so many layers they stand in the file of that number's parity, so while one layer runs
    what it reads is not touched, and a kill loses that layer only.
    """

    def __init__(self, folder: Path, num_tokens: int, width: int, dtype: torch.dtype) -> None:
        self._folder, self._shape, self._dtype = folder, (num_tokens, width), dtype
        self._row_bytes = width * dtype.itemsize
        self._from = self._to = 0
        self._digest = authentic.Digest("hidden states")

    @property
    def num_bytes(self) -> int:
        """Of both files together."""
        return 2 * self._shape[0] * self._row_bytes

    def begin(self, num_layers: int) -> None:
        """Reads what is behind `num_layers` from now on (0: nothing yet, and that is put first).

        Takes the room of what is to be written; raises OSError if there is none. A file that is
        not read from now on is made anew, so that no other name of it is written to.
        """
        self._from = num_layers % 2
        self._to = 1 - self._from if num_layers else self._from
        for parity in {0, 1} - ({self._from} if num_layers else set()):
            self._path(parity).unlink(missing_ok=True)
            allocate(self._path(parity), self.num_bytes // 2)
        self._digest = authentic.Digest("hidden states")

    def get(self, first: int, last: int) -> Tensor:
        rows = torch.empty(last - first, self._shape[1], dtype=self._dtype)
        self._read(self._path(self._from), first * self._row_bytes, tensors.content(rows))
        return rows

    def put(self, first: int, hidden: Tensor) -> None:
        """Rows come in order. Raises OSError."""
        content = tensors.content(hidden.detach().cpu().contiguous())
        durable.put(self._path(self._to), first * self._row_bytes, content)
        self._digest.update(content)

    def swap(self, *, is_saved: bool) -> None:
        """What was put is what is read from now on. Unless it `is_saved` the other file stays as it
        is, because a manifest may stand on it."""
        self._from, self._to = self._to, 1 - self._to if is_saved else self._to
        self._digest = authentic.Digest("hidden states")

    @property
    def digest(self) -> str:
        """The checksum of what was put since the last turn."""
        return self._digest.hexdigest()

    def sync(self) -> None:
        """Returns when what was put since the last turn is on disk."""
        durable.sync_file(self._path(self._to))

    def checksum(self, num_layers: int) -> str:
        """Of what is on disk behind so many layers. Raises StoreError if it cannot be read."""
        digest, size = authentic.Digest("hidden states"), self.num_bytes // 2
        path = self._path(num_layers % 2)
        plain_file(path, size)
        piece = memoryview(bytearray(min(size, _PIECE_BYTES)))
        for first in range(0, size, _PIECE_BYTES):
            part = piece[: size - first]
            self._read(path, first, part)
            digest.update(part)
        return digest.hexdigest()

    def in_memory(self, num_put: int) -> Activations:
        """What is read, with the rows that were put already in their places."""
        num_tokens, width = self._shape
        found = Activations(num_tokens, width, self._dtype)
        found.put(num_put, self.get(num_put, num_tokens))
        self._from = self._to
        found.put(0, self.get(0, num_put))
        return found

    def _path(self, parity: int) -> Path:
        return self._folder / f"hidden-{parity}.bin"

    def _read(self, path: Path, offset: int, into: memoryview) -> None:
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(offset)
                while into:
                    count = file.readinto(into)
                    if not count:
                        raise StoreError(f"{path}: cut while it was in use")
                    into = into[count:]
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from None
