"""Files that are there whole or not at all, also after a kill, a full disk or a power loss."""

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PART = r"\.mm1-[0-9a-f]{16}\.part"  # names that a killed `write` leaves

_KEPT_SHARE = 0.8  # of the cap, after the oldest were dropped


def write(
    path: Path, fill: Callable[[Path], object], *, sync: bool = True, is_private: bool = True
) -> None:
    """Puts at `path` what `fill` writes to the path it is given, replacing what was there.

    With `sync` it is on disk when this returns. Only the owner may read it, unless not
    `is_private`: then the umask says. Any number of processes may write to one path. Raises
    OSError, and what `fill` raises; nothing is left of it then.
    """
    part = path.with_name(f".mm1-{secrets.token_hex(8)}.part")
    try:
        descriptor = os.open(
            part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if is_private else 0o666
        )
        mode = os.fstat(descriptor).st_mode
        os.close(descriptor)
        fill(part)
        if part.stat().st_mode != mode:  # safetensors puts a file of its own there
            part.chmod(stat.S_IMODE(mode))
        if sync:
            sync_file(part)
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(path.parent)


def private_folder(folder: Path) -> None:
    """Makes `folder`, and those above it that are missing, for the owner alone, whatever the umask;
    one that is there already becomes so. Raises OSError."""
    for path in reversed([folder, *folder.parents]):
        if not path.exists():
            path.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    is_mine = os.name != "nt" and stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    if is_mine and stat.S_IMODE(status.st_mode) & 0o077:
        folder.chmod(0o700)


def put(path: Path, offset: int, content: bytes | memoryview) -> None:
    """Overwrites bytes of the file at `path` from `offset` on; certain only after `sync_file`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        left = memoryview(content)
        while left:
            count = os.pwrite(descriptor, left, offset)
            left, offset = left[count:], offset + count
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Returns when the bytes of the file at `path` are on disk."""
    with path.open("r+b") as file:  # Windows syncs only what may be written to
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Makes renames and removals in `folder` last."""
    if os.name == "nt":  # opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_parts(folder: Path) -> None:
    """Removes what a killed `write` left; nobody else may be writing there."""
    for part in folder.glob("*.part"):
        part.unlink(missing_ok=True)


def remove_folder(folder: Path, *, last: str = "") -> None:
    """Removes a folder that its caller knows for its own: nothing else removes one.

    No link is followed, neither at its name nor inside. Files that begin with `last` go after all
    others, so that what a kill leaves can still be told for what it was. No folder there is no
    error. Raises OSError, NotADirectoryError for a link among them.
    """
    if folder.is_symlink():
        raise NotADirectoryError(errno.ENOTDIR, "is a symbolic link, not ours", str(folder))
    if not folder.exists():
        return
    first = [path for path in folder.iterdir() if last and not path.name.startswith(last)]
    for path in first:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    shutil.rmtree(folder)


def own_files(
    folders: Iterable[Path], own: re.Pattern[str]
) -> Iterator[tuple[Path, os.stat_result]]:
    """Plain files with names like `own`, or that a killed `write` left; none behind a link."""
    for folder in folders:
        with suppress(OSError):
            for path in () if folder.is_symlink() else folder.iterdir():
                with suppress(OSError):
                    status = path.lstat()
                    is_own = own.fullmatch(path.name) or re.fullmatch(PART, path.name)
                    if is_own and stat.S_ISREG(status.st_mode):
                        yield path, status


def drop_unused(folders: Iterable[Path], own: re.Pattern[str], before_s: float) -> tuple[int, int]:
    """Removes those of `own_files` not used since `before_s`; how many, and their bytes."""
    count, num_bytes = 0, 0
    for path, status in list(own_files(folders, own)):
        if status.st_mtime < before_s:
            with suppress(OSError):
                path.unlink()
                count, num_bytes = count + 1, num_bytes + status.st_size
    return count, num_bytes


def drop_oldest(folders: Iterable[Path], own: re.Pattern[str], max_bytes: int) -> None:
    """If all files in `folders` are too large together, removes those not used for longest.

    Only `own_files` count and go: where a cache lies may be said by a mm1.toml, and lead to others'
    files.
    """
    entries = [(s.st_mtime, s.st_size, path) for path, s in own_files(folders, own)]
    total = sum(size for _, size, _ in entries)
    if total <= max_bytes:
        return
    for _, size, path in sorted(entries):
        if total <= _KEPT_SHARE * max_bytes:
            return
        with suppress(OSError):
            path.unlink()
            total -= size


@contextmanager
def locked(path: Path, on_wait: Callable[[], object]) -> Iterator[None]:
    """Holds the lock file; the system lets go of it however this process ends."""
    import filelock  # takes 50 ms, which most commands need not spend

    lock = filelock.FileLock(path)
    try:
        held = lock.acquire(blocking=False)
    except filelock.Timeout:
        on_wait()
        held = lock.acquire()
    with held:
        yield
