"""The parts of a GGUF file: metadata and packed tensors, every size checked before it is believed.

Parsed here rather than by `gguf.GGUFReader`, which trusts the counts it finds: a few bytes that
claim 2**60 array elements keep it busy until memory ends.
"""

import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from engine.errors import GgufError

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class GgufTensor:
    kind: GGMLQuantizationType
    shape: tuple[int, ...]  # outermost dimension first
    packed: Bytes  # [rows, bytes per row]


@dataclass(frozen=True)
class GgufFile:
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]


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

_SPLIT_NAME: Final = re.compile(r"(.+)-\d{5}-of-(\d{5})\.gguf", re.DOTALL)
_MOST_FILES: Final = 1000


class _Cursor:
    """Reads forward through the file; every count is checked against what is left of it."""

    def __init__(self, data: Bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, num_bytes: int) -> Bytes:
        end = self.position + num_bytes
        if end > len(self.data):
            raise GgufError(f"cut short: {len(self.data)} bytes, at least {end} are announced")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def number(self, code: str) -> Any:  # noqa: ANN401 - whatever the file holds
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)).data)[0]

    def text(self) -> str:
        raw = self.take(self.number("Q")).tobytes()
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise GgufError("a text in the header is not UTF-8") from None

    def value(self) -> object:
        kind = self.number("I")
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            return self._array()
        if kind not in SCALARS:
            raise GgufError(f"metadata of unknown type {kind}")
        return self.number(SCALARS[kind])

    def _array(self) -> object:
        kind = self.number("I")
        length = self.number("Q")
        if kind == STRING:
            return [self.text() for _ in range(length)]
        if kind not in SCALARS:
            raise GgufError(f"metadata array of unsupported type {kind}")
        item = np.dtype(SCALARS[kind]).newbyteorder("<")
        return self.take(length * item.itemsize).view(item)


def read_gguf(source: Path) -> GgufFile:
    """The file's contents; tensors are views of the mapped file. Raises GgufError or OSError.

    Of a model split into NAME-00001-of-00003.gguf and so on, any one stands for all: the metadata
    is that of the first, the tensors are those of all.
    """
    if _SPLIT_NAME.fullmatch(source.name) is None:
        file = _read_one(source)
        if (count := file.metadata.get("split.count", 0)) not in (0, 1):
            raise GgufError(
                f"{source.name} is one of {count} files, which must be named as "
                "NAME-00001-of-00003.gguf"
            )
        return file
    paths = split_files(source)
    last = len(paths)
    files = []
    for number, path in enumerate(paths, start=1):
        if not path.is_file():
            raise GgufError(f"{path.name} is missing, one of {last} files")
        file = _read_one(path)
        told = file.metadata.get("split.no", number - 1), file.metadata.get("split.count", last)
        if told != (number - 1, last):
            raise GgufError(f"{path.name} says it is file {told[0]} (from 0) of {told[1]}")
        files.append(file)
    tensors: dict[str, GgufTensor] = {}
    for file in files:
        if twice := sorted(tensors.keys() & file.tensors.keys()):
            raise GgufError(f"the tensor {twice[0]!r:.80} is in two files")
        tensors |= file.tensors
    announced = files[0].metadata.get("split.tensors.count", len(tensors))
    if announced != len(tensors):
        raise GgufError(f"{announced} tensors are announced and {len(tensors)} are there")
    return GgufFile(files[0].metadata, tensors)


def split_files(source: Path) -> list[Path]:
    """`source`, or all files of the split model it is one of, by their names alone."""
    matched = _SPLIT_NAME.fullmatch(source.name)
    if matched is None:
        return [source]
    name, last = matched[1], int(matched[2])
    if not 1 <= last <= _MOST_FILES:
        raise GgufError(f"{source.name}: {last} files, expected 1 to {_MOST_FILES:,}")
    numbers = range(1, last + 1)
    return [source.with_name(f"{name}-{number:05d}-of-{last:05d}.gguf") for number in numbers]


def _read_one(source: Path) -> GgufFile:
    if source.stat().st_size == 0:
        raise GgufError("the file is empty")
    cursor = _Cursor(np.asarray(np.memmap(source, dtype=np.uint8, mode="r")))
    if cursor.take(len(MAGIC)).tobytes() != MAGIC:
        raise GgufError("not a GGUF file: it does not begin with 'GGUF'")
    version = cursor.number("I")
    if version not in (2, 3):
        raise GgufError(f"GGUF version {version} is not supported: 2 and 3 (little-endian) are")
    num_tensors = cursor.number("Q")
    num_values = cursor.number("Q")

    metadata: dict[str, Any] = {}
    for _ in range(num_values):
        key = cursor.text()
        if key in metadata:
            raise GgufError(f"the metadata key {key!r} appears twice")
        metadata[key] = cursor.value()

    entries = [_read_tensor_entry(cursor) for _ in range(num_tensors)]
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise GgufError("general.alignment is not a positive number")
    data_start = -(-cursor.position // alignment) * alignment

    tensors: dict[str, GgufTensor] = {}
    for name, shape, kind, offset in entries:
        if name in tensors:
            raise GgufError(f"the tensor {name!r} appears twice")
        block_elements, block_bytes = GGML_QUANT_SIZES[kind]
        if shape[-1] % block_elements:
            raise GgufError(f"{name!r}: rows of {shape[-1]} do not divide into {kind.name} blocks")
        row_bytes = shape[-1] // block_elements * block_bytes
        num_rows = math.prod(shape[:-1])
        cursor.position = data_start + offset
        packed = cursor.take(num_rows * row_bytes).reshape(num_rows, row_bytes)
        tensors[name] = GgufTensor(kind, shape, packed)
    if sum(tensor.packed.nbytes for tensor in tensors.values()) > len(cursor.data):
        raise GgufError("tensors overlap")
    return GgufFile(metadata, tensors)


def _read_tensor_entry(
    cursor: _Cursor,
) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
    name = cursor.text()
    num_dimensions = cursor.number("I")
    if not 1 <= num_dimensions <= MAX_DIMENSIONS:
        raise GgufError(f"{name!r} has {num_dimensions} dimensions")
    shape = tuple(cursor.number("Q") for _ in range(num_dimensions))[::-1]
    if 0 in shape:
        raise GgufError(f"{name!r} is empty")
    kind = cursor.number("I")
    if kind not in GGML_QUANT_SIZES:
        raise GgufError(f"{name!r} has the unknown quantisation {kind}")
    return name, shape, GGMLQuantizationType(kind), cursor.number("Q")
