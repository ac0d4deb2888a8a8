"""Files that are there whole or not at all, also after a kill, a full disk or a power loss."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_PART = ".part"


def write(path: Path, fill: Callable[[Path], object]) -> None:
    """Puts at `path` what `fill` writes into the path it is given, replacing what was there."""
    part = path.with_name(path.name + _PART)
    try:
        fill(part)
        sync(part)
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def put(path: Path, offset: int, content: bytes | memoryview) -> None:
    """Overwrites bytes of the file at `path` from `offset` on; certain only after `sync`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        left = memoryview(content)
        while left:
            count = os.pwrite(descriptor, left, offset)
            left, offset = left[count:], offset + count
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Returns when the bytes of the file at `path` are on disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Makes renames and removals in `folder` last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_parts(folder: Path) -> None:
    """Removes what a killed `write` left; nobody else may be writing there."""
    for part in folder.glob(f"*{_PART}"):
        part.unlink(missing_ok=True)
