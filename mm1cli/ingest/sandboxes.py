"""Threads that each have a sandbox of their own, whose child starts when it is needed."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self, TypeVar

from mm1cli.ingest.sandbox import Sandbox

T = TypeVar("T")


class Sandboxes:
    """Left by an exception, it kills the children that are at work; what waits is not begun."""

    def __init__(self, make: Callable[[], Sandbox], num_threads: int) -> None:
        self._make = make
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._made: list[Sandbox] = []
        self._is_aborted = False
        self._threads = ThreadPoolExecutor(max(num_threads, 1), thread_name_prefix="sandbox")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            with self._lock:
                self._is_aborted = True
                for sandbox in self._made:
                    sandbox.abort()
        self._threads.shutdown(cancel_futures=True)
        for sandbox in self._made:
            sandbox.close()

    def submit(self, work: Callable[[Sandbox], T]) -> "Future[T]":
        """`work` in one of the threads, with its sandbox."""
        return self._threads.submit(lambda: work(self._own()))

    def _own(self) -> Sandbox:
        sandbox: Sandbox | None = getattr(self._mine, "sandbox", None)
        if sandbox is None:
            sandbox = self._mine.sandbox = self._make()
            with self._lock:
                self._made.append(sandbox)
                if self._is_aborted:
                    sandbox.abort()
        return sandbox
