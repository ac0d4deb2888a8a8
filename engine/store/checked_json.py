"""JSON objects of a context's folder: of bounded size and one format, with a keyed checksum."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine import authentic, durable
from engine.errors import StoreError

VERSION = 2

_MAX_BYTES = 16 * 2**20


def write(path: Path, format: str, body: Mapping[str, object]) -> None:
    """Replaces `path` durably."""
    whole = {"format": format, "version": VERSION, **body}
    text = json.dumps({**whole, "checksum": _checksum(whole)}, indent=1)
    durable.write(path, lambda part: part.write_text(text + "\n", encoding="utf-8"))


def read(path: Path, format: str) -> dict[str, Any]:
    """Raises FileNotFoundError, or StoreError if it is damaged or of another format or version."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise StoreError(f"{path}: over {_MAX_BYTES:,} bytes, not a saved context")
        body = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, StoreError):
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path}: not readable ({error})") from None
    if not isinstance(body, dict) or body.get("format") != format:
        raise StoreError(f"{path}: not a saved context of mm1")
    if body.get("version") != VERSION:
        raise StoreError(
            f"{path}: written in version {body.get('version')!r:.20} of the format, this mm1 "
            f"reads version {VERSION}; build the context again"
        )
    if body.pop("checksum", None) != _checksum(body):
        raise StoreError(
            f"{path}: damaged, or not of this user: its bytes do not give its checksum; "
            "`mm1 context import` takes in what others made"
        )
    return body


def checked_hash(value: object) -> str:
    """Raises ValueError if `value` is no 128-bit hash in hexadecimal digits."""
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{32}", value):
        raise ValueError(f"{value!r:.40} is no hash")
    return value


def checked_int(value: object, low: int, high: int) -> int:
    """Raises ValueError if `value` is no number from `low` to `high`."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{value!r:.40} is no number from {low} to {high}")
    return value


def _checksum(body: Mapping[str, Any]) -> str:
    return authentic.hexdigest("manifest", json.dumps(body, sort_keys=True).encode())
