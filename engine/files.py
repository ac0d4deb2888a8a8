"""Files of model directories: small ones read with care, whole folders that appear at once."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from engine import durable
from engine.errors import CheckpointError, EngineError

MAX_JSON_BYTES = 256 * 2**20


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
