"""What becomes of a build when the disk fails: it ends with the reason, or goes on in memory."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from engine.errors import EngineError, PlacementError, StoreError

T = TypeVar("T")
OnUnsaved = Callable[[str], None]


class DiskFailurePolicy:
    """Does what writes to disk. After the first thing that fails it raises, or does nothing more if
    there is an `on_unsaved` to be told."""

    def __init__(self, folder: Path, on_unsaved: OnUnsaved | None) -> None:
        self._folder, self._on_unsaved = folder, on_unsaved
        self.is_possible = True

    def do(self, work: Callable[[], T]) -> T | None:
        if not self.is_possible:
            return None
        try:
            return work()
        except (OSError, PlacementError) as error:
            reason = error if isinstance(error, PlacementError) else self._in_words(error)
        self.give_up(reason)
        return None

    def give_up(self, reason: EngineError) -> None:
        """As if something had failed for that reason."""
        if self._on_unsaved is None:
            raise reason
        self.is_possible = False
        self._on_unsaved(str(reason))

    def _in_words(self, error: OSError) -> StoreError:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        what = "the disk is full" if full else (error.strerror or type(error).__name__)
        return StoreError(
            f"{self._folder}: {what}; what was saved so far is kept, the same command goes on from "
            "there"
        )
