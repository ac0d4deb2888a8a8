"""Tensors in a safetensors file that carries its own checksum.

What is loaded stays in the file and is mapped into memory: nothing is copied, and the system may
drop pages that are not in use. Hostile input: the library checks the header against the file's
size; names, shapes and dtypes are held against what is expected before a byte is touched.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from engine.errors import StoreError
from engine.store import durable

_METADATA = "mm1"
_CHECKSUM = "xxh3_128"
_DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int8: "I8"}


@dataclass(frozen=True, slots=True)
class Expected:
    shape: tuple[int, ...]
    dtype: torch.dtype


def save(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Writes `path` durably; `facts` say what the tensors are and must match on loading."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # One entry: the library writes several in an order that changes from run to run.
    metadata = {_METADATA: json.dumps({**facts, _CHECKSUM: checksum(on_cpu)}, sort_keys=True)}
    durable.write(path, lambda part: save_file(on_cpu, part, metadata))


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
    tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in expected}
    if check and checksum(tensors) != metadata.get(_CHECKSUM):
        raise StoreError(f"{path}: damaged: its bytes do not give its checksum")
    return tensors


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """Of names and bytes, in the order of the names; tensors are contiguous and on the CPU."""
    digest = xxhash.xxh3_128()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def verify(path: Path, facts: Mapping[str, str]) -> int:
    """The size of `path` after holding every byte against its checksum. Raises StoreError."""
    file, metadata = _open(path, facts)
    found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if checksum(found) != metadata.get(_CHECKSUM):
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
