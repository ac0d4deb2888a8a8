"""What a GGUF file is, for listings: no list of tokens is made and no tensor touched."""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Kind

from engine.errors import GgufError
from engine.gguf.file import read_headers
from engine.gguf.header import Header, TensorEntry
from engine.gguf.metadata import Metadata, get


@dataclass(frozen=True, slots=True)
class GgufInfo:
    """`kinds` are the quantisations' names, the one with most bytes first; `num_bytes` counts
    whole files. What the file does not say is None."""

    architecture: str
    name: str | None
    size_label: str | None
    context_length: int | None
    num_parameters: int
    num_bytes: int
    kinds: tuple[str, ...]
    num_files: int


def read_info(source: Path) -> GgufInfo:
    """Of the model that `source` is, or is one of the files of. Raises GgufError or OSError; that
    a tensor ends behind its file, too."""
    headers = read_headers(source)
    for header in headers:
        _check_length(header)
    metadata = headers[0].metadata
    architecture = get(metadata, "general.architecture", str)
    return GgufInfo(
        architecture=architecture,
        name=_text(metadata, "general.name"),
        size_label=_text(metadata, "general.size_label"),
        context_length=_number(metadata, f"{architecture}.context_length"),
        num_parameters=sum(math.prod(entry.shape) for entry in _entries(headers)),
        num_bytes=sum(len(header.data) for header in headers),
        kinds=_kinds(_entries(headers)),
        num_files=len(headers),
    )


def _check_length(header: Header) -> None:
    ends = [header.data_start + entry.offset + _tensor_bytes(entry) for entry in header.entries]
    if (end := max(ends, default=0)) > len(header.data):
        raise GgufError(f"cut short: {len(header.data)} bytes, at least {end} are announced")


def _tensor_bytes(entry: TensorEntry) -> int:
    """By its kind; of a kind we do not know not even that is known."""
    if entry.kind not in GGML_QUANT_SIZES:
        return 0
    elements, num_bytes = GGML_QUANT_SIZES[Kind(entry.kind)]
    return math.prod(entry.shape) // elements * num_bytes


def _entries(headers: list[Header]) -> list[TensorEntry]:
    return [entry for header in headers for entry in header.entries]


def _kinds(entries: list[TensorEntry]) -> tuple[str, ...]:
    sizes: Counter[str] = Counter()
    for entry in entries:
        is_known = entry.kind in GGML_QUANT_SIZES
        name = Kind(entry.kind).name if is_known else f"kind {entry.kind}"
        sizes[name] += _tensor_bytes(entry) or math.prod(entry.shape)
    return tuple(name for name, _ in sizes.most_common())


def _text(metadata: Metadata, key: str) -> str | None:
    value = metadata.get(key)
    return value if isinstance(value, str) else None


def _number(metadata: Metadata, key: str) -> int | None:
    value = metadata.get(key)
    return value if type(value) is int else None
