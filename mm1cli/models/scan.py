"""Folders of strangers: listed within bounds, each once, whatever their links lead to."""

import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MOST_ENTRIES = 50_000  # of all folders that one walk lists together
MOST_JSON_BYTES = 64 * 2**20


@dataclass(slots=True)
class Scan:
    """One walk over all stores. `complaints` has a line for each folder that could not be read."""

    complaints: list[str] = field(default_factory=list)
    _entries_left: int = MOST_ENTRIES
    _seen: set[tuple[int, int]] = field(default_factory=set)

    def entries(self, folder: Path) -> list[Path]:
        """What lies in `folder`, by name; nothing if there is no such folder.

        A folder that was listed before, as a loop of links would have it, is empty.
        """
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in self._seen:
                return []
            self._seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as found:
                names = [entry.name for entry in itertools.islice(found, self._entries_left)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self.complaints.append(f"{folder}: {error.strerror}; not looked into")
            return []
        self._entries_left -= len(names)
        if not self._entries_left:
            self.complaints.append(
                f"{folder}: over {MOST_ENTRIES:,} files and folders were seen; looked no further"
            )
        return [folder / name for name in sorted(names)]

    def folders(self, folder: Path) -> Iterator[Path]:
        """Those in `folder` that are not hidden, links to folders among them."""
        return (p for p in self.entries(folder) if not p.name.startswith(".") and is_folder(p))


def is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def is_file(path: Path) -> bool:
    """Whether `path` leads to a file, through any number of links; a loop leads nowhere."""
    try:
        return path.is_file()
    except OSError:
        return False


def num_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def read_json(path: Path) -> dict[str, Any]:
    """An object from a small file. Raises ValueError."""
    try:
        if path.stat().st_size > MOST_JSON_BYTES:
            raise ValueError(f"{path.name} is too large")
        value = json.loads(path.read_bytes())
    except (OSError, RecursionError) as error:
        raise ValueError(f"{path.name} cannot be read") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} is no JSON object")
    return value
