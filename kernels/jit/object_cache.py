"""Compiled functions kept on disk: a start compiles nothing that was compiled before.

Compiling what a model needs takes seconds, most of them LLVM's. A file is named by a hash of all
that decides its content: the function in LLVM IR, the processor and its features, the versions.
What is in the folder is run, so a folder or file that anybody else could write to is not used, and
bytes are held against their own checksum. Nothing is kept until `keep_in` is called.
"""

import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

_CHECK_BYTES = 32
_MOST_BYTES = 2**22  # of one function
_MOST_FILES = 512  # then those not used for longest go
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH

_folder: list[Path] = []  # one, once it is known


def keep_in(folder: Path) -> None:
    """Of this process from now on; the folder need not exist yet."""
    _folder[:] = [folder]


def name_of(*parts: str) -> str:
    """Of a file that was made from all of `parts` and nothing else."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode())
    return f"{digest.hexdigest()}.o"


def load(name: str) -> bytes | None:
    """The object code kept as `name`, None if there is none that can be trusted."""
    if not (_folder and _is_own_folder(_folder[0])):
        return None
    try:
        descriptor = os.open(_folder[0] / name, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not (stat.S_ISREG(status.st_mode) and _is_own(status)):
            return None
        content = file.read(_MOST_BYTES + 1)
        with suppress(OSError):
            os.utime(descriptor)  # in use
    check, code = content[:_CHECK_BYTES], content[_CHECK_BYTES:]
    is_whole = len(content) <= _MOST_BYTES and hashlib.sha256(code).digest() == check
    return code if is_whole and code else None


def save(name: str, code: bytes) -> None:
    """Keeps `code`, whole or not at all; that it could not is no error."""
    if not _folder:
        return
    folder = _folder[0]
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_own_folder(folder):
            return
        files = sorted(folder.iterdir(), key=lambda path: path.lstat().st_mtime)
        for old in files[: max(0, len(files) - _MOST_FILES + 1)]:
            old.unlink(missing_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=folder)  # 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(hashlib.sha256(code).digest() + code)
            Path(temporary).replace(folder / name)
        except OSError:
            Path(temporary).unlink(missing_ok=True)


def _is_own_folder(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and _is_own(status)


def _is_own(status: os.stat_result) -> bool:
    """Whether only this user, or root, can have written it; never where there are no such users."""
    if not hasattr(os, "geteuid"):
        return False
    return status.st_uid == os.geteuid() and not status.st_mode & _WRITABLE_BY_OTHERS
