"""A GGUF file's metadata and packed tensors, which stay views of the mapped file."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Kind

from engine.errors import GgufError
from engine.gguf.header import Header, TensorEntry, read_header

Bytes = npt.NDArray[np.uint8]

PLAIN_KINDS: Final = (Kind.F32, Kind.F16, Kind.BF16)
_BLOCK_KINDS: Final = (
    *(Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0),
    *(Kind.Q2_K, Kind.Q3_K, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K),
    *(Kind.IQ4_NL, Kind.IQ4_XS, Kind.MXFP4),
)
KINDS: Final = frozenset((*PLAIN_KINDS, *_BLOCK_KINDS))  # those that are read
_ADVICE: Final = "get the model as Q4_K_M, Q5_K_M, Q6_K, Q8_0, BF16 or F16"


@dataclass(frozen=True)
class GgufTensor:
    kind: Kind
    shape: tuple[int, ...]  # outermost dimension first
    packed: Bytes  # [rows, bytes per row]


@dataclass(frozen=True)
class GgufFile:
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]
    headers: tuple[Header, ...] = ()


_SPLIT_NAME: Final = re.compile(r"(.+)-\d{5}-of-(\d{5})\.gguf", re.DOTALL)
_MOST_FILES: Final = 1000


def read_gguf(source: Path, first: Header | None = None) -> GgufFile:
    """The file's contents; tensors are views of the mapped file. Raises GgufError or OSError.

    `first` is the header of the first file, if it was read already.

    Of a model split into NAME-00001-of-00003.gguf and so on, any one stands for all: the metadata
    is that of the first, the tensors are those of all.
    """
    headers = read_headers(source, first)
    tensors: dict[str, GgufTensor] = {}
    for header in headers:
        found = _tensors(header)
        if twice := sorted(tensors.keys() & found.keys()):
            raise GgufError(f"the tensor {twice[0]!r:.80} is in two files")
        tensors |= found
    announced = headers[0].metadata.get("split.tensors.count", len(tensors))
    if len(headers) > 1 and announced != len(tensors):
        raise GgufError(f"{announced} tensors are announced and {len(tensors)} are there")
    return GgufFile(headers[0].metadata, tensors, tuple(headers))


def read_headers(source: Path, first: Header | None = None) -> list[Header]:
    """Those of all files of the model, in order; what they say of their number agrees."""
    if _SPLIT_NAME.fullmatch(source.name) is None:
        header = first or read_header(source)
        if (count := header.metadata.get("split.count", 0)) not in (0, 1):
            raise GgufError(
                f"{source.name} is one of {count} files, which must be named as "
                "NAME-00001-of-00003.gguf"
            )
        return [header]
    paths = split_files(source)
    last = len(paths)
    headers = []
    for number, path in enumerate(paths, start=1):
        if not path.is_file():
            raise GgufError(f"{path.name} is missing, one of {last} files")
        header = first if first and number == 1 else read_header(path)
        told = header.metadata.get("split.no", number - 1), header.metadata.get("split.count", last)
        if told != (number - 1, last):
            raise GgufError(f"{path.name} says it is file {told[0]} (from 0) of {told[1]}")
        headers.append(header)
    return headers


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


def _tensors(header: Header) -> dict[str, GgufTensor]:
    data: Bytes = np.frombuffer(header.data, np.uint8)
    tensors: dict[str, GgufTensor] = {}
    for entry in header.entries:
        if entry.name in tensors:
            raise GgufError(f"the tensor {entry.name!r:.80} appears twice")
        kind = _kind(entry)
        block_elements, block_bytes = GGML_QUANT_SIZES[kind]
        width = entry.shape[-1]
        if width % block_elements:
            raise GgufError(
                f"{entry.name!r:.80}: rows of {width} do not divide into {kind.name} blocks"
            )
        row_bytes = width // block_elements * block_bytes
        num_rows = math.prod(entry.shape[:-1])
        start = header.data_start + entry.offset
        if (end := start + num_rows * row_bytes) > len(data):
            raise GgufError(f"cut short: {len(data)} bytes, at least {end} are announced")
        packed = data[start:end].reshape(num_rows, row_bytes)
        tensors[entry.name] = GgufTensor(kind, entry.shape, packed)
    if sum(tensor.packed.nbytes for tensor in tensors.values()) > len(data):
        raise GgufError("tensors overlap")
    return tensors


def _kind(entry: TensorEntry) -> Kind:
    if entry.kind not in GGML_QUANT_SIZES:
        raise GgufError(f"{entry.name!r:.80} has the unknown quantisation {entry.kind}; {_ADVICE}")
    kind = Kind(entry.kind)
    if kind not in KINDS:
        raise GgufError(
            f"the quantisation {kind.name} of {entry.name!r:.80} is not supported; {_ADVICE}"
        )
    return kind
