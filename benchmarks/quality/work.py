"""Items of work: done once, kept on disk, within a budget of time, with a progress bar."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mm1cli.output.progress import Progress

LONG_TOKENS = 16_384

Key = Mapping[str, object]
Result = dict[str, Any]


class Work:
    """Results by key, in `path` as JSON lines, one appended and synced as each is done.

    A line that a kill cut off is skipped, and that item is done again. After `deadline` (of
    time.monotonic) nothing new is begun: `do` returns None, and `num_left_out` counts it.
    """

    def __init__(
        self,
        path: Path | None = None,
        progress: Progress | None = None,
        deadline: float | None = None,
    ) -> None:
        self._path, self._progress, self._deadline = path, progress, deadline
        self._known: dict[str, Result] = {}
        self._stage, self._done, self._total = "", 0, 0
        self.num_left_out = 0
        if path is not None and path.exists():
            self._load(path)

    def stage(self, name: str, total: int) -> None:
        """What follows is `total` items of `name`."""
        self._stage, self._done, self._total = name, 0, total
        self.num_left_out = 0

    def until(self, deadline: float) -> None:
        """Another deadline, of time.monotonic."""
        self._deadline = deadline

    def known(self, key: Key) -> Result | None:
        return self._known.get(_spelled(key))

    def do(self, key: Key, compute: Callable[[], Result]) -> Result | None:
        """The result for `key`, computed unless it is known; None if the time is over."""
        spelled = _spelled(key)
        if spelled not in self._known:
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self.num_left_out += 1
                return None
            self._tell()
            self._known[spelled] = result = compute()
            self._keep(key, result)
        self._done += 1
        self._tell()
        return self._known[spelled]

    def reading(self, done: int, total: int) -> None:
        """Tokens of one item, for `Context.extend`; told only where an item takes long."""
        if self._progress is not None and total >= LONG_TOKENS:
            self._progress.update(f"{self._stage}, reading", done, total, "tokens")

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()

    def _tell(self) -> None:
        if self._progress is not None:
            total = max(self._total, self._done)
            self._progress.update(self._stage, self._done, total, "items")

    def _load(self, path: Path) -> None:
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
                self._known[_spelled(entry["key"])] = entry["result"]
            except (ValueError, KeyError, TypeError):
                continue

    def _keep(self, key: Key, result: Result) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            # The newline before it parts the line from one that a kill cut off.
            file.write("\n" + json.dumps({"key": key, "result": result}))
            file.flush()
            os.fsync(file.fileno())


def digest(value: object) -> str:
    """A short name for what a result depends on, the same in every run."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _spelled(key: Key) -> str:
    return json.dumps(key, sort_keys=True)
