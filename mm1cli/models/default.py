"""Which model runs where nobody named one: what `models use` set, or the largest that fits."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine import durable, model_files
from mm1cli.models import library, packaged
from mm1cli.models.describe import needed_bytes

AUTO: Final = "auto"
SMALL: Final = packaged.SMALL.name

_FILE = "default.json"


@dataclass(frozen=True, slots=True)
class Choice:
    """A model by its name, and in a few words why it."""

    name: str
    why: str


def choose(device: str) -> Choice:
    """For a run on `device`. Reads manifests, no weights.

    Models smaller than `small` are never taken on their own account, as they do not read well; but
    where not even `small` fits, `mini` is.
    """
    if (name := chosen()) is not None:
        return Choice(name, "set by `mm1 models use`")
    free = model_files.available_bytes(device)
    least = needed_bytes(packaged.SMALL.num_bytes)
    installed = _installed()
    fitting = [(count, name) for count, name, needed in installed if needed <= free]
    if fitting:
        return Choice(max(fitting)[1], "largest installed that fits")
    if free < least:
        why = f"{SMALL} takes {least / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB is free"
        return Choice(library.EMBEDDED, why)
    return Choice(SMALL, "comes with mm1, fetched on first use")


def chosen() -> str | None:
    """What `use` has set, if anything."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        name = json.loads(_file().read_bytes())["model"]
        return name if type(name) is str and name.strip() else None
    return None


def use(name: str) -> None:
    """Sets the default; AUTO takes it back. Raises OSError."""
    if name == AUTO:
        _file().unlink(missing_ok=True)
        return
    _file().parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"model": name})
    durable.write(_file(), lambda part: part.write_text(text, encoding="utf-8"))


def _file() -> Path:
    return library.data_dir() / _FILE


def _installed() -> list[tuple[int, str, int]]:
    """Parameters, name and memory needed of those that mm1 has put there, `small` or larger."""
    found = []
    for model in library.list_models():
        count = model.num_parameters
        if model.installed and count >= packaged.SMALL.num_parameters:
            found.append((count, model.name, needed_bytes(model.size_bytes)))
    return found
