import json
from pathlib import Path
from typing import Any

from engine.errors import CheckpointError

_MAX_JSON_BYTES = 256 * 2**20


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a model directory, of bounded size.

    Raises CheckpointError in one line.
    """
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise CheckpointError(f"{path}: over {_MAX_JSON_BYTES:,} bytes, not a model's file")
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
