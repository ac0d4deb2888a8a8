"""Which folders' mm1.toml may set everything: those the user said so of, as the file was then.

A repository that one only wants to read brings its own mm1.toml. What it may set without being
asked is `settings.HARMLESS`; the rest holds after `mm1 config trust`, until the file changes.
"""

import hashlib
import json
from pathlib import Path
from typing import Final

from engine import durable
from engine.authentic import state_dir
from mm1cli.errors import InputError

PROJECT_NAME: Final = "mm1.toml"
_STORE = "trusted.json"
_MAX_BYTES = 1 << 20


def is_trusted(file: Path, content: bytes) -> bool:
    """Whether the user trusts the file as it is: its place, and `content`."""
    return _trusted().get(_place(file)) == _hash(content)


def was_trusted(file: Path) -> bool:
    """Whether the user trusted the file, perhaps as it was before."""
    return _place(file) in _trusted()


def trust(folder: Path) -> Path:
    """From now on the folder's mm1.toml, as it is, may set everything; returns its path.

    Raises InputError if there is none.
    """
    file = folder / PROJECT_NAME
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; name a folder with a mm1.toml") from None
    _write({**_trusted(), _place(file): _hash(content)})
    return file


def distrust(folder: Path) -> bool:
    """Takes it back; False if there was nothing to take. The file may be gone."""
    trusted = _trusted()
    was = trusted.pop(_place(folder / PROJECT_NAME), None) is not None
    if was:
        _write(trusted)
    return was


def _place(file: Path) -> str:
    return str(file.resolve())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _trusted() -> dict[str, str]:
    """Hash by path. A file that is damaged trusts nothing."""
    try:
        with (state_dir() / _STORE).open("rb") as file:
            found = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {path: value for path, value in found.items() if isinstance(value, str)}


def _write(trusted: dict[str, str]) -> None:
    """Raises InputError."""
    text = json.dumps(trusted, indent=1, sort_keys=True)
    file = state_dir() / _STORE
    try:
        durable.private_folder(file.parent)
        durable.write(file, lambda part: part.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; nothing was changed") from None
