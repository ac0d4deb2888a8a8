"""Work of which a few pieces run at once, and that nobody waits for when the process is to end."""

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Line = dict[str, Any]

_LOOK_S = 0.5  # so that Ctrl-C comes through where a wait without an end would keep it


@dataclass(frozen=True, slots=True)
class _Failed:
    error: BaseException


_Result = queue.SimpleQueue[Line | _Failed]


class Jobs:
    """`work(*piece)` for each piece that is put, `count` at once, results in the order put.

    The threads are daemons: an interpreter that ends leaves requests that are under way, and the
    system closes their sockets, which stops the server's work. An executor's threads would be
    waited for, as long as an answer takes.
    """

    def __init__(self, work: Callable[..., Line], count: int) -> None:
        self._work = work
        self._pieces: queue.SimpleQueue[tuple[Sequence[Any], _Result]] = queue.SimpleQueue()
        self._results: list[_Result] = []
        for _ in range(count):
            threading.Thread(target=self._run, daemon=True).start()

    def put(self, piece: Sequence[Any]) -> None:
        result: _Result = queue.SimpleQueue()
        self._results.append(result)
        self._pieces.put((piece, result))

    def get(self) -> Line:
        """The result of the first piece that was not asked for. Raises what its work raised."""
        result = self._results.pop(0)
        while True:
            try:
                told = result.get(timeout=_LOOK_S)
            except queue.Empty:
                continue
            if isinstance(told, _Failed):
                raise told.error
            return told

    def _run(self) -> None:
        while True:
            piece, result = self._pieces.get()
            try:
                result.put(self._work(*piece))
            except BaseException as error:
                result.put(_Failed(error))
