"""Files of models and caches: hashes, names that last, one process at a time, room."""

import contextlib
import hashlib
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

_KEEP_SHARE = 0.8  # of the cap, after the oldest were dropped


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_directory(path: Path) -> None:
    """Makes renames in `path` last."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def drop_oldest(folders: Iterable[Path], own: re.Pattern[str], max_bytes: int) -> None:
    """If all files in `folders` are too large together, removes those not used for longest.

    Only plain files with names like `own` count and go, and none behind a link: where a cache lies
    may be said by the mm1.toml of a folder one only wants to read, and lead to others' files.
    """
    entries = []
    for folder in folders:
        with contextlib.suppress(OSError):
            for path in () if folder.is_symlink() else folder.iterdir():
                with contextlib.suppress(OSError):
                    status = path.lstat()
                    if own.fullmatch(path.name) and stat.S_ISREG(status.st_mode):
                        entries.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in entries)
    if total <= max_bytes:
        return
    for _, size, path in sorted(entries):
        if total <= _KEEP_SHARE * max_bytes:
            return
        with contextlib.suppress(OSError):
            path.unlink()
            total -= size


@contextlib.contextmanager
def locked(path: Path, on_wait: Callable[[], object]) -> Iterator[None]:
    """Holds the lock file; the system lets go of it however this process ends."""
    with path.open("ab") as file:
        if sys.platform == "win32":
            import msvcrt

            while True:
                try:
                    msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                    break
                except PermissionError:
                    on_wait()
                    time.sleep(0.5)
        else:
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
