"""The folder of contexts that `mm1 analyze` keeps by itself: named, listed, and kept small.

Each context is a folder of its own (see `engine.store`), so one is removed whole or not at all.
Contexts that begin alike share files through hard links.
"""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from engine.engine import SavedContext, StoreError, saved_context

if TYPE_CHECKING:
    from engine.engine import Engine

GB = 10**9

_GONE = ".gone"
_USED = "used"


@dataclass(frozen=True, slots=True)
class Kept:
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

    def folder_for(self, engine: "Engine", token_ids: Sequence[int]) -> Path:
        """Where the context of `token_ids` is, or would be."""
        return self.root / engine.context_name(token_ids)

    def alike(self, engine: "Engine") -> list[Path]:
        """Folders whose contexts `engine` could begin with, last used first."""
        kept = sorted(self, key=lambda one: -one.used_s)
        return [
            one.folder
            for one in kept
            if one.context is not None and one.context.fingerprint == engine.fingerprint
        ]

    def __iter__(self) -> Iterator[Kept]:
        """Everything kept, by name."""
        if not self.root.is_dir():
            return
        for folder in sorted(self.root.iterdir()):
            if folder.is_dir() and not folder.name.endswith(_GONE):
                yield describe(folder)

    def touch(self, folder: Path) -> None:
        """Notes that the context in `folder` was used just now."""
        with suppress(OSError):
            (folder / _USED).touch()

    def shrink(self, keep: Path | None = None) -> list[Kept]:
        """Removes what was not used for longest until all fits; `keep` stays. Returns what went.

        A context that another process is building stays, too.
        """
        self._finish_removals()
        kept = sorted(self, key=lambda one: one.used_s)
        gone = []
        for one in kept:
            if self.num_bytes() <= self.max_bytes:
                break
            if one.folder != keep and remove(one.folder):
                gone.append(one)
        return gone

    def num_bytes(self) -> int:
        """What all contexts take on disk together."""
        sizes: dict[tuple[int, int], int] = {}
        for path in self.root.rglob("*") if self.root.is_dir() else ():
            with suppress(OSError):
                status = path.lstat()
                if not path.is_dir():
                    sizes[status.st_dev, status.st_ino] = status.st_size
        return sum(sizes.values())

    def _finish_removals(self) -> None:
        for folder in self.root.glob(f"*{_GONE}") if self.root.is_dir() else ():
            shutil.rmtree(folder, ignore_errors=True)


def describe(folder: Path) -> Kept:
    """What is saved in `folder`, as far as it can be told without reading all of it."""
    context, why = None, ""
    try:
        context = saved_context(folder)
    except StoreError as error:
        why = str(error)
    num_bytes, used_s = 0, 0.0
    for path in folder.rglob("*"):
        with suppress(OSError):
            status = path.lstat()
            if not path.is_dir():
                num_bytes += status.st_size
            used_s = max(used_s, status.st_mtime)
    return Kept(folder, context, why, num_bytes, min(used_s, time.time()))


def remove(folder: Path) -> bool:
    """Removes a saved context; False if another process is building it.

    It is renamed first, so that a kill leaves no half of it under its name.
    """
    lock = filelock.FileLock(folder / "lock")
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        return False
    try:
        gone = folder.with_name(folder.name + _GONE)
        shutil.rmtree(gone, ignore_errors=True)
        folder.rename(gone)
    finally:
        lock.release()
    shutil.rmtree(gone, ignore_errors=True)
    return True
