"""What of a folder is a context's: asked before one is removed, and before one is built there.

A store gives only names that are known here. So a folder with any other name in it is somebody
else's, or somebody put something there, and neither is ours to clear.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from engine import durable
from engine.errors import StoreError
from engine.store import layer_progress
from engine.store.manifest import FINISHED, PARTIAL, Manifest, OpenedContext

AREAS = ("kv", "states", "attachments")
LOCK = "lock"

_USED = "used"  # put there by whoever keeps contexts, for its time
_HASH = "[0-9a-f]{32}"
_TELLING = re.compile(
    rf"tokens-{_HASH}\.bin|kv/\d{{10}}-\d{{10}}-{_HASH}\.safetensors"
    rf"|states/\d{{10}}-{_HASH}\.safetensors"
)
_LAYERS = layer_progress.FOLDER
_OF_LAYERS = (
    rf"{_LAYERS}/(layers\.json|hidden-[01]\.bin|(kv|states)-\d{{10}}\.safetensors)(\.part)?"
)
_OWN = re.compile(
    rf"({_TELLING.pattern}|{re.escape(FINISHED)}|{re.escape(PARTIAL)}|attachments/{_HASH}-[^/]+)"
    rf"(\.part)?|{_OF_LAYERS}|{LOCK}|{_USED}|({'|'.join(AREAS)}|{_LAYERS})/"
    rf"|(({'|'.join(AREAS)}|{_LAYERS})/)?{durable.PART}"
)
_OWN_LINK = re.compile(rf"{_LAYERS}|{_OF_LAYERS}")  # builds take these away, unfollowed


def why_foreign(folder: Path) -> str:
    """Why `folder` is not a context's, finished or not, and of nothing else; "" if it is."""
    try:
        if not _is_begun(folder):
            return f"{folder} is a folder of {_count(folder)} without a saved context's manifest"
        for name in _names(folder):
            if not _is_own(folder, name):
                return f"{folder} holds {name}, which is no part of a saved context"
    except OSError as error:
        return f"{folder}: {error.strerror}"
    return ""


def why_not_built(folder: Path) -> str:
    """Why a store is not to build, and tidy, in `folder`; "" if it is new, or a context's."""
    new = {LOCK, *(f"{name}/" for name in AREAS)}
    if not folder.is_dir() or all(n in new and _is_own(folder, n) for n in _names(folder)):
        return ""
    return why_foreign(folder)


def remove_unreferenced(folder: Path) -> None:
    """Removes what the finished manifest in `folder` does not name; for whoever holds its lock."""
    layer_progress.clear(folder)
    (folder / PARTIAL).unlink(missing_ok=True)
    named = set(OpenedContext.read(folder).files())
    for pattern in ("kv/*", "states/*", "attachments/*", "tokens-*.bin"):
        for path in folder.glob(pattern):
            if path not in named:
                path.unlink(missing_ok=True)


def _is_begun(folder: Path) -> bool:
    """Whether a store has been here. Its manifest may be damaged, or not written yet, but names of
    hashes are nobody else's, and before those it makes its folders beside the lock."""
    for name in (FINISHED, PARTIAL):
        with suppress(StoreError):
            Manifest.read(folder / name)
            return True
    places = [folder, *(place for place in (folder / "kv", folder / "states") if place.is_dir())]
    paths = (path.relative_to(folder).as_posix() for place in places for path in place.iterdir())
    if any(map(_TELLING.fullmatch, paths)):
        return True
    return (folder / LOCK).is_file() and all((folder / name).is_dir() for name in AREAS)


def _is_own(folder: Path, name: str) -> bool:
    own = _OWN_LINK if (folder / name).is_symlink() else _OWN
    return own.fullmatch(name) is not None


def _names(folder: Path) -> Iterator[str]:
    """Of every file, link and empty folder ("kv/") there; follows no link. Raises OSError."""
    for where, folders, files in os.walk(folder, onerror=_fail):
        here = Path(where)
        links = [name for name in folders if (here / name).is_symlink()]
        for name in sorted([*files, *links]):
            yield (here / name).relative_to(folder).as_posix()
        if not folders and not files and here != folder:
            yield f"{here.relative_to(folder).as_posix()}/"


def _count(folder: Path) -> str:
    """ "6 files and 1 folder", not counting what is further down."""
    found = [path.is_dir() and not path.is_symlink() for path in folder.iterdir()]
    counts = {"file": found.count(False), "folder": found.count(True)}
    parts = [f"{n:,} {what}{'s' * (n != 1)}" for what, n in counts.items() if n or what == "file"]
    return " and ".join(parts)


def _fail(error: OSError) -> None:
    raise error
