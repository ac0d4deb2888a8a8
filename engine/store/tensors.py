"""Tensors in a safetensors file that carries its own checksum, which has the user's key.

What is loaded stays in the file and is mapped into memory, for reading only: nothing is copied, the
system may drop pages that are not in use, and no limit on a process's own memory counts them.
Hostile input: the library checks the header against the file's size; names, shapes and dtypes are
held against what is expected before a byte is touched.
"""

import json
import math
import mmap
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from engine import authentic, durable
from engine.errors import StoreError

_METADATA = "mm1"
_CHECKSUM = authentic.ALGORITHM
# In the order in which the library puts them into a file.
_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int8: "I8"}
_ALIGNMENT = 8


@dataclass(frozen=True, slots=True)
class Expected:
    shape: tuple[int, ...]
    dtype: torch.dtype


def save(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Writes `path` durably; `facts` say what the tensors are and must match on loading."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = _metadata(facts, checksum(on_cpu, facts))
    durable.write(path, lambda part: save_file(on_cpu, part, metadata))


def _metadata(facts: Mapping[str, str], checksum: str) -> dict[str, str]:
    # One entry: the library writes several in an order that changes from run to run.
    return {_METADATA: json.dumps({**facts, _CHECKSUM: checksum}, sort_keys=True)}


def layout(
    expected: Mapping[str, Expected], facts: Mapping[str, str], checksum: str
) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """What `save` puts before the tensors, and where it puts each of them: bytes [first, last)
    behind that. Only the checksum's digits depend on what the tensors hold."""
    order = list(_DTYPES)
    places: dict[str, tuple[int, int]] = {}
    header: dict[str, object] = {"__metadata__": _metadata(facts, checksum)}
    at = 0
    for name in sorted(expected, key=lambda name: (order.index(expected[name].dtype), name)):
        shape, dtype = expected[name].shape, expected[name].dtype
        first, at = at, at + math.prod(shape) * dtype.itemsize
        places[name] = first, at
        header[name] = {"dtype": _DTYPES[dtype], "shape": shape, "data_offsets": (first, at)}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text, places


def load(
    path: Path, expected: Mapping[str, Expected], facts: Mapping[str, str], *, check: bool = True
) -> dict[str, Tensor]:
    """The tensors at `path`, mapped. Raises StoreError if they are not what is expected.

    With `check` every byte is read once and held against the checksum.
    """
    file, metadata = _open(path, facts)
    found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    if found.keys() != expected.keys():
        raise StoreError(f"{path}: holds other tensors than its place asks for")
    for name, want in expected.items():
        got = (tuple(found[name].get_shape()), found[name].get_dtype())
        if got != (want.shape, _DTYPES[want.dtype]):
            raise StoreError(f"{path}: {name} is {got}, expected {want.shape} {want.dtype}")
    tensors = _mapped(path, expected)
    if check and checksum(tensors, facts) != metadata.get(_CHECKSUM):
        raise StoreError(f"{path}: damaged: its bytes do not give its checksum")
    return tensors


def _mapped(path: Path, expected: Mapping[str, Expected]) -> dict[str, Tensor]:
    """The tensors, as pages of the file that cannot be written to.

    The library maps them writable and private, which counts as memory that is taken.
    """
    whole = pages(path)
    start = 8 + int.from_bytes(content(whole[:8]), "little")
    header = json.loads(bytes(content(whole[8:start])))
    behind = whole[start:]
    found = {}
    for name, want in expected.items():
        first, last = header[name]["data_offsets"]
        try:
            found[name] = behind[first:last].view(want.dtype).view(want.shape)
        except RuntimeError:  # it does not start at a multiple of its items' size
            raise StoreError(f"{path}: damaged: {name} is not aligned") from None
    return found


def pages(path: Path) -> Tensor:
    """The bytes of a file, mapped for reading only."""
    options: Any = {"trackfd": False} if sys.version_info >= (3, 13) else {}
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it cannot be written to is the aim
        return torch.frombuffer(mapped, dtype=torch.uint8)


def content(tensor: Tensor) -> memoryview:
    """The bytes of a tensor that is contiguous and on the CPU."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def checksum(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> str:
    """Of what the tensors are, their names and bytes; they are contiguous and on the CPU."""
    digest = authentic.Digest("tensors")
    digest.update(json.dumps(dict(facts), sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(content(tensors[name]))
    return digest.hexdigest()


def verify(path: Path, facts: Mapping[str, str]) -> int:
    """The size of `path` after holding every byte against its checksum. Raises StoreError."""
    file, metadata = _open(path, facts)
    found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if checksum(found, facts) != metadata.get(_CHECKSUM):
        raise StoreError(f"{path}: damaged: its bytes do not give its checksum")
    return path.stat().st_size


def _open(path: Path, facts: Mapping[str, str]) -> tuple[Any, dict[str, str]]:
    """The file (safe_open is untyped) and its metadata, in which `facts` must stand."""
    opener: Any = safe_open
    try:
        file = opener(path, framework="pt")
        metadata = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path}: missing, cut or damaged ({error})") from None
    if not isinstance(metadata, dict):
        raise StoreError(f"{path}: damaged: it does not say what it holds")
    for name, value in facts.items():
        if metadata.get(name) != value:
            raise StoreError(f"{path}: {name} is {metadata.get(name)!r:.40}, expected {value!r}")
    return file, metadata
