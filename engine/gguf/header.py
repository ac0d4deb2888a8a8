"""The header of a GGUF file: metadata and what is said of tensors, every count checked before it
is believed.

Parsed here rather than by `gguf.GGUFReader`, which trusts the counts it finds: a few bytes that
claim 2**60 array elements keep it busy until memory ends.
"""

import mmap
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, overload

import numpy as np

from engine.errors import GgufError

MAGIC: Final = b"GGUF"
SCALARS: Final = dict(enumerate(["B", "b", "H", "h", "I", "i", "f", "?"])) | {
    10: "Q",
    11: "q",
    12: "d",
}
STRING: Final = 8
ARRAY: Final = 9
MAX_DIMENSIONS: Final = 4
DEFAULT_ALIGNMENT: Final = 32

# Far above any model's, so that a file of holes cannot keep us busy or fill the memory.
_MOST_BYTES: Final = 2**30
_MOST_TEXTS: Final = 2**21
_MOST_ENTRIES: Final = 2**20
_U64: Final = struct.Struct("<Q")
_READERS: Final = {kind: struct.Struct("<" + code) for kind, code in SCALARS.items()}


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """What the header says of a tensor. `kind` is ggml's number, perhaps of no kind we know."""

    name: str
    shape: tuple[int, ...]  # outermost dimension first
    kind: int
    offset: int  # from where the data begin


@dataclass(frozen=True, slots=True)
class Header:
    """`data` is the whole mapped file; its tensors begin at byte `data_start`."""

    data: mmap.mmap
    metadata: dict[str, Any]
    entries: list[TensorEntry]
    data_start: int


class Texts(Sequence[str]):
    """An array of texts in the header, decoded when one is first asked for."""

    def __init__(self, data: mmap.mmap, ends: list[int]) -> None:
        self._data, self._ends = data, ends  # where each text, and before it its length, ends

    def __len__(self) -> int:
        return len(self._ends) - 1

    @cached_property
    def _texts(self) -> list[str]:
        first, ends = self._ends[0], self._ends
        block = self._data[first : ends[-1]]
        try:
            return [block[a - first + 8 : b - first].decode() for a, b in pairwise(ends)]
        except UnicodeDecodeError:
            raise GgufError("a text in the header is not UTF-8") from None

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self._texts[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def tolist(self) -> list[str]:
        """All of them; not a copy."""
        return self._texts


def read_header(source: Path) -> Header:
    """Raises GgufError or OSError."""
    with source.open("rb") as file:
        if source.stat().st_size == 0:
            raise GgufError("the file is empty")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    cursor = _Cursor(data)
    cursor.advance(len(MAGIC))
    if data[: len(MAGIC)] != MAGIC:
        raise GgufError("not a GGUF file: it does not begin with 'GGUF'")
    version = cursor.number(_READERS[4])
    if version not in (2, 3):
        raise GgufError(f"GGUF version {version} is not supported: 2 and 3 (little-endian) are")
    num_tensors, num_values = cursor.count(), cursor.count()
    metadata: dict[str, Any] = {}
    for _ in range(num_values):
        key = cursor.text()
        if key in metadata:
            raise GgufError(f"the metadata key {key!r:.80} appears twice")
        metadata[key] = cursor.value()
    entries = [cursor.tensor_entry() for _ in range(num_tensors)]
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise GgufError("general.alignment is not a positive number")
    return Header(data, metadata, entries, -(-cursor.at // alignment) * alignment)


class _Cursor:
    """Reads forward through the header; every count is checked against what is left of it."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 0
        self.limit = min(len(data), _MOST_BYTES)

    def advance(self, num_bytes: int) -> int:
        """Where so many bytes begin, which are there."""
        start, end = self.at, self.at + num_bytes
        if end > self.limit:
            raise self._cut(end)
        self.at = end
        return start

    def number(self, reader: struct.Struct) -> Any:  # noqa: ANN401 - whatever the file holds
        return reader.unpack_from(self.data, self.advance(reader.size))[0]

    def count(self) -> int:
        """Of tensors or metadata values."""
        if (number := self.number(_U64)) > _MOST_ENTRIES:
            raise self._cut(self.at + number)
        return int(number)

    def text(self) -> str:
        size = self.number(_U64)
        start = self.advance(size)
        try:
            return self.data[start : start + size].decode()
        except UnicodeDecodeError:
            raise GgufError("a text in the header is not UTF-8") from None

    def value(self) -> object:
        kind = self.number(_READERS[4])
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            return self._array()
        if kind not in SCALARS:
            raise GgufError(f"metadata of unknown type {kind}")
        return self.number(_READERS[kind])

    def tensor_entry(self) -> TensorEntry:
        name = self.text()
        num_dimensions = self.number(_READERS[4])
        if not 1 <= num_dimensions <= MAX_DIMENSIONS:
            raise GgufError(f"{name!r:.80} has {num_dimensions} dimensions")
        shape = tuple(self.number(_U64) for _ in range(num_dimensions))[::-1]
        if 0 in shape:
            raise GgufError(f"{name!r:.80} is empty")
        return TensorEntry(name, shape, self.number(_READERS[4]), self.number(_U64))

    def _array(self) -> object:
        kind = self.number(_READERS[4])
        length = self.number(_U64)
        if kind == STRING:
            return self._texts(length)
        if kind not in SCALARS:
            raise GgufError(f"metadata array of unsupported type {kind}")
        item = np.dtype(SCALARS[kind]).newbyteorder("<")
        start = self.advance(length * item.itemsize)
        return np.frombuffer(self.data, item, length, start)

    def _texts(self, length: int) -> Texts:
        if length > _MOST_TEXTS or length * _U64.size > self.limit - self.at:
            raise self._cut(self.at + length * _U64.size)
        unpack, data, at = _U64.unpack_from, self.data, self.at
        ends = [at]
        append = ends.append
        try:
            for _ in range(length):
                at += 8 + unpack(data, at)[0]
                append(at)
        except (struct.error, OverflowError):
            raise self._cut(at) from None
        if at > self.limit:
            raise self._cut(at)
        self.at = at
        return Texts(data, ends)

    def _cut(self, end: int) -> GgufError:
        if self.limit < end <= len(self.data):
            return GgufError(f"a header of over {_MOST_BYTES:,} bytes, which no model has")
        return GgufError(f"cut short: {len(self.data)} bytes, at least {end} are announced")
