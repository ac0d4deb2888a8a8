"""One thread that owns the engine; requests wait in a bounded line and hear of their work.

A job runs in the thread and says what happens through `tell`; whoever waits reads it from an
asyncio queue. Once nobody waits any more the job is told so by `Cancelled`, at the next token or
chunk.
"""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

Tell = Callable[[Any], None]


class Cancelled(BaseException):
    """Nobody waits for this any more."""


class BusyError(Exception):
    """The line is full."""


@dataclass(slots=True)
class _Job:
    work: Callable[[Tell], None]
    loop: asyncio.AbstractEventLoop
    events: "asyncio.Queue[tuple[str, Any]]"
    is_cancelled: threading.Event = field(default_factory=threading.Event)

    def put(self, kind: str, value: Any) -> None:  # noqa: ANN401
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.events.put_nowait, (kind, value))

    def tell(self, value: Any) -> None:  # noqa: ANN401
        if self.is_cancelled.is_set():
            raise Cancelled
        self.put("event", value)


class Worker:
    def __init__(self, most_waiting: int) -> None:
        self._jobs: queue.Queue[_Job] = queue.Queue(most_waiting)
        self._thread = threading.Thread(target=self._run, name="mm1 engine", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        return self._jobs.qsize()

    async def events(self, work: Callable[[Tell], None]) -> AsyncIterator[Any]:
        """What `work` tells, as it comes; its exception at last. Raises BusyError at once where the
        line is full. Closing the iterator cancels the work."""
        job = _Job(work, asyncio.get_running_loop(), asyncio.Queue())
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise BusyError from None
        try:
            while True:
                kind, value = await job.events.get()
                if kind == "end":
                    return
                if kind == "error":
                    raise value
                yield value
        finally:
            job.is_cancelled.set()

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            if job.is_cancelled.is_set():
                continue
            try:
                job.work(job.tell)
                job.put("end", None)
            except Cancelled:
                continue
            except Exception as error:
                job.put("error", error)
