"""Inflated bytes are counted while they come: the sizes that a file declares may lie."""

from typing import Protocol

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.reader import MIB, ReadError

_MAX_INFLATED_BYTES = 512 * MIB
_MAX_RATIO = 200
_RATIO_COUNTS_FROM_BYTES = 32 * MIB
_CHUNK_BYTES = MIB


class Stream(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class Inflation:
    """Counts inflated bytes against what a file of `num_bytes` may become."""

    def __init__(self, num_bytes: int, limit_bytes: int = _MAX_INFLATED_BYTES) -> None:
        self._limit = min(limit_bytes, max(num_bytes * _MAX_RATIO, _RATIO_COUNTS_FROM_BYTES))
        self._num_bytes = 0

    def add(self, num_bytes: int) -> None:
        """Raises ReadError: TOO_LARGE."""
        self._num_bytes += num_bytes
        if self._num_bytes > self._limit:
            detail = f"inflates to more than {self._limit // MIB} MiB"
            raise ReadError(Reason.TOO_LARGE, detail)

    def read(self, stream: Stream) -> bytes:
        """All of `stream`, a chunk at a time: the sizes that a file declares may lie."""
        self.add(0)
        chunks = []
        while chunk := stream.read(_CHUNK_BYTES):
            self.add(len(chunk))
            chunks.append(chunk)
        return b"".join(chunks)
