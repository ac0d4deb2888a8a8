"""Extracted text, kept by what it was extracted from and by what: never read from another version.

One file for each, named by the sha256 of the file's bytes, the reader and its version: 32 digits
that only this user's key gives (`engine.authentic`), so that what somebody else put there is not
read, a line with the document's name, and JSON. Nor is what was made with other libraries than are
installed now, and every field is checked. Readers that run without a sandbox are as
fast as this, and files that failed are tried again.
"""

import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from engine import authentic, durable
from mm1cli.ingest.readers.reader import MIB, Reader, ReadError, Reading
from mm1cli.ingest.wire_format import reading_from, reply_of

FORMAT = 3
MAX_BYTES = 2048 * MIB
_MAX_ENTRY_BYTES = 256 * MIB
_MAX_NAME_BYTES = 1 << 16
_OWN = re.compile(r"[0-9a-f]{64}-[^/]+\.json")


@dataclass(frozen=True, slots=True)
class CachedText:
    """`document` is the path its text was first read from; `used_s` is in seconds since 1970."""

    document: str
    num_bytes: int
    used_s: float


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder of entries, shared by any number of processes and threads.

    Nothing here raises: a cache that cannot be read or written is an empty one.
    """

    folder: Path
    max_bytes: int = MAX_BYTES

    def get(self, sha256: str, reader: Reader) -> Reading | None:
        """What `reader` once made of the file with that hash."""
        path = self._path(sha256, reader)
        try:
            with path.open("rb") as file:
                content = file.read(authentic.DIGITS + _MAX_ENTRY_BYTES + 1)
            told, content = content[: authentic.DIGITS], content[authentic.DIGITS :]
            if len(content) > _MAX_ENTRY_BYTES or not authentic.is_authentic(
                _purpose(path), content, told
            ):
                return None
            entry = json.loads(content[content.index(b"\n") :])
            if entry["format"] != FORMAT or entry["sha256"] != sha256 or entry["members"]:
                return None
            reading = reading_from(entry)
        except (OSError, ValueError, KeyError, TypeError, RecursionError, ReadError):
            return None
        if not _is_current(reading.library):
            return None
        with suppress(OSError):
            os.utime(path)  # when it was last of use
        return reading

    def put(self, sha256: str, reader: Reader, reading: Reading, name: str) -> None:
        """Members are not kept: each has an entry of its own, and its container none. `name` is the
        document's, for `entries`."""
        if reading.members or not _is_current(reading.library):
            return
        message, _ = reply_of(reading)
        head = json.dumps(str(Path.cwd() / name)).encode() + b"\n"
        content = head + json.dumps({"format": FORMAT, "sha256": sha256} | message).encode()
        path = self._path(sha256, reader)
        if len(content) > _MAX_ENTRY_BYTES:
            return
        with suppress(OSError):
            durable.private_folder(path.parent)
            told = authentic.hexdigest(_purpose(path), content).encode()
            durable.write(path, lambda part: part.write_bytes(told + content), sync=False)

    def entries(self) -> Iterator[CachedText]:
        """What is kept, of which documents."""
        for path, status in durable.own_files(self._folders(), _OWN):
            yield CachedText(_document_of(path), status.st_size, status.st_mtime)

    def clear(self, before_s: float) -> tuple[int, int]:
        """Drops what was not used since `before_s`; how many, and their bytes."""
        return durable.drop_unused(self._folders(), _OWN, before_s)

    def prune(self) -> None:
        """Drops the entries that were of no use for longest, if all together are too large."""
        durable.drop_oldest(self._folders(), _OWN, self.max_bytes)

    def _folders(self) -> list[Path]:
        is_there = self.folder.is_dir() and not self.folder.is_symlink()
        return sorted(self.folder.glob("[0-9a-f]" * 2)) if is_there else []

    def _path(self, sha256: str, reader: Reader) -> Path:
        return self.folder / sha256[:2] / f"{sha256}-{reader.name}-{reader.version}.json"


def _document_of(path: Path) -> str:
    """The document an entry says it is of; "" for none."""
    try:
        with path.open("rb") as file:
            file.seek(authentic.DIGITS)
            name = json.loads(file.readline(_MAX_NAME_BYTES))
    except (OSError, ValueError, RecursionError):
        return ""
    return name if isinstance(name, str) else ""


def _purpose(path: Path) -> str:
    """An entry is one for the file, reader and version in its name."""
    return f"extracted text {path.name}"


def _is_current(library: str) -> bool:
    """Whether "pypdfium2 5.15.2, pypdf 7.1.0" is what a reader would use now."""
    if not library:
        return True
    return all(
        _installed(name) == version
        for name, _, version in (part.strip().rpartition(" ") for part in library.split(","))
    )


@cache
def _installed(name: str) -> str:
    if name.lower() == "python":
        return platform.python_version()
    try:
        return importlib.metadata.version(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return ""
