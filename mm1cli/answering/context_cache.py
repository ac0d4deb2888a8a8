"""The folder of contexts that `mm1 analyze` keeps by itself: named, listed, and kept small.

Each context is a folder of its own (see `engine.store`), so one is removed whole or not at all.
Contexts that begin alike share files through hard links.
"""

import json
import os
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import filelock

from engine import durable
from engine.api import (
    Engine,
    SavedContext,
    StoreError,
    saved_attachment,
    saved_context,
    why_foreign,
)
from mm1cli.errors import InputError
from mm1cli.ingest.display_names import one_line

GB = 10**9

_GONE = ".gone"
_USED = "used"
ORIGIN = "origin.json"
SERVER = "server.txt"  # the address of the one that keeps what was read
_MAX_URL = 300


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A folder with a saved context. `context` is None where none was finished; `why` says more.

    `num_bytes` counts a file that contexts share in each of them; `used_s` is in seconds since
    1970.
    """

    folder: Path
    context: SavedContext | None
    why: str
    num_bytes: int
    used_s: float


class ContextCache:
    """Contexts under `root`, which need not exist yet; none is larger than all may be together."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        self.root, self.max_bytes = root, max_bytes

    def folder_for(self, engine: Engine, token_ids: Sequence[int]) -> Path:
        """Where the context of `token_ids` is, or would be."""
        return self.root / engine.context_name(token_ids)

    def alike(self, engine: Engine) -> list[Path]:
        """Folders whose contexts `engine` could begin with, last used first."""
        kept = sorted(self, key=lambda one: -one.used_s)
        return [
            one.folder
            for one in kept
            if one.context is not None and one.context.fingerprint == engine.fingerprint
        ]

    def __iter__(self) -> Iterator[CacheEntry]:
        """Everything kept, by name."""
        return (describe(one) for one in self._folders() if not one.name.endswith(_GONE))

    def why_elsewhere(self, *folders: Path) -> str:
        """Why what is kept, here or in `folders` of it, would lie outside, in words; or ""."""
        for path in (self.root, *folders):
            if path.is_symlink():
                return f"{path} is a symbolic link; move it away, or set cache_dir"
        return ""

    def touch(self, folder: Path) -> None:
        """Notes that the context in `folder` was used just now."""
        with suppress(OSError):
            (folder / _USED).touch()

    def shrink(self, keep: Path | None = None) -> list[CacheEntry]:
        """Removes what was not used for longest until all fits; `keep` stays. Returns what went.

        A context that another process is building stays, too, and so does what is no context.
        Raises InputError if `root` is a link.
        """
        if why := self.why_elsewhere():
            raise InputError(f"{why}; nothing was removed")
        for folder in self._folders():
            if folder.name.endswith(_GONE):  # of a removal that was killed
                with suppress(InputError):
                    remove(folder)
        gone: list[CacheEntry] = []
        num_bytes = self.num_bytes()
        if num_bytes <= self.max_bytes:
            return gone
        for one in sorted(self, key=lambda one: one.used_s):
            with suppress(InputError):
                if one.folder != keep and remove(one.folder):
                    gone.append(one)
                    num_bytes = self.num_bytes()  # files that contexts share may stay
            if num_bytes <= self.max_bytes:
                break
        return gone

    def num_bytes(self) -> int:
        """What all contexts take on disk together; what is none could not make room."""
        statuses = [s for one in self._folders() if not why_foreign(one) for s in _statuses(one)]
        return sum({(s.st_dev, s.st_ino): _size(s) for s in statuses}.values())

    def _folders(self) -> Iterator[Path]:
        """Those of `root` that lie in it, by name."""
        if self.root.is_dir() and not self.why_elsewhere():
            paths = sorted(self.root.iterdir())
            yield from (path for path in paths if path.is_dir() and not path.is_symlink())


def describe(folder: Path) -> CacheEntry:
    """What is saved in `folder`, as far as it can be told without reading all of it."""
    context, why = None, ""
    try:
        context = saved_context(folder)
    except StoreError as error:
        why = str(error)
    statuses = list(_statuses(folder))
    used_s = max((status.st_mtime for status in statuses), default=0.0)
    return CacheEntry(folder, context, why, sum(map(_size, statuses)), min(used_s, time.time()))


def origin(documents: Sequence[str]) -> bytes:
    """What a kept context says of where it is from: the folder one worked in, and the documents."""
    return json.dumps({"folder": str(Path.cwd()), "documents": list(documents)}).encode()


def origin_of(folder: Path) -> tuple[str, list[str]]:
    """The folder and documents that the context in `folder` says it is of; "" and none if none."""
    try:
        told = json.loads(saved_attachment(folder, ORIGIN))
        return str(told["folder"]), list(map(str, told["documents"]))
    except (StoreError, ValueError, KeyError, TypeError, RecursionError):
        return "", []


def server_of(folder: Path) -> str:
    """The address of the server that keeps what the context in `folder` has read; "" for none."""
    try:
        return one_line(saved_attachment(folder, SERVER)[:_MAX_URL].decode("utf-8", "replace"))
    except StoreError:
        return ""


def check_removable(folder: Path) -> None:
    """Raises InputError, with what it looks like, unless all of `folder` is a context's."""
    link = f"{folder} is a symbolic link; name the folder it leads to"
    if why := link if folder.is_symlink() else why_foreign(folder):
        raise InputError(f"{why}; nothing was removed")


def remove(folder: Path) -> bool:
    """Removes a context, finished or not; False if another process is building it.

    Nothing else removes one. It is renamed first, so that a kill leaves no half of it under its
    name. Raises InputError, as `check_removable` does, or if the system refuses.
    """
    check_removable(folder)
    folder = folder.resolve()
    gone = folder.with_name(f"{folder.name[:32]}.{secrets.token_hex(4)}{_GONE}")
    try:
        with filelock.FileLock(folder / "lock").acquire(blocking=False):
            folder.rename(gone)
        durable.remove_folder(gone, last="tokens-")
    except filelock.Timeout:
        return False
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; not removed, or not all of it") from None
    return True


def _statuses(folder: Path) -> Iterator[os.stat_result]:
    """Of all that lies in `folder`; of a link, its own."""
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            with suppress(OSError):
                yield (Path(where) / name).lstat()


def _size(status: os.stat_result) -> int:
    return 0 if stat.S_ISDIR(status.st_mode) else status.st_size
