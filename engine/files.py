"""Files of model directories: small ones read with care, whole folders that appear at once."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from engine import durable
from engine.errors import CheckpointError, EngineError

MAX_JSON_BYTES = 256 * 2**20
_MOST_HEADER_BYTES = 100_000_000  # as the safetensors library has it


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a model directory, of bounded size.

    Raises CheckpointError in one line.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise CheckpointError(f"{path}: over {MAX_JSON_BYTES:,} bytes, not a model's file")
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent}: no {path.name}; is this a model folder?") from None
    except CheckpointError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: expected a JSON object")
    return value


def tensor_rows(directory: Path, name: str) -> int | None:
    """The first dimension of a tensor, or of its codes if it is quantised, by the header of its
    shard; None where there is no such shard or tensor. Raises CheckpointError."""
    index, shard = directory / "model.safetensors.index.json", "model.safetensors"
    for stored in (name, f"{name}.codes"):
        if index.is_file():
            named = read_json(index).get("weight_map")
            shard = str(named.get(stored, "")) if isinstance(named, dict) else ""
        path = directory / shard
        if not shard or path.parent != directory or not path.is_file():
            continue
        shape = _header(path).get(stored, {}).get("shape")
        if isinstance(shape, list) and shape and isinstance(shape[0], int):
            return shape[0]
    return None


def _header(shard: Path) -> dict[str, Any]:
    """Of a safetensors file; empty if it has none that can be read, which its reader will tell."""
    try:
        with shard.open("rb") as file:
            num_bytes = int.from_bytes(file.read(8), "little")
            if num_bytes > _MOST_HEADER_BYTES:
                return {}
            value = json.loads(file.read(num_bytes))
    except (OSError, ValueError, RecursionError):
        return {}
    is_sound = isinstance(value, dict) and all(isinstance(one, dict) for one in value.values())
    return value if is_sound else {}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Puts `value` at `path`, on disk when this returns."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    durable.write(
        path,
        lambda part: part.write_text(text, encoding="utf-8", newline="\n"),
        is_private=False,
    )


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A hidden folder to fill that becomes `target` in one rename at the end, or is removed.

    A killed process leaves it behind. Raises EngineError if there is such a one, or a `target`.
    """
    if target.exists():
        raise EngineError(f"{target} exists already; choose another place")
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.mkdir(parents=True)
    except FileExistsError:
        raise EngineError(
            f"{partial} is there: another process is writing {target.name}, or one was killed; "
            "remove it in that case"
        ) from None
    try:
        yield partial
        durable.sync_folder(partial)
        partial.rename(target)
        durable.sync_folder(target.parent)
    except BaseException:
        with suppress(OSError):
            durable.remove_folder(partial)
        raise
