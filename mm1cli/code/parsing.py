"""Source files through the parser's child processes, all cores at once.

Someone else's code is hostile input to a native parser: see `parse`. So it runs in the sandbox that
reads documents, with a smaller purse: what a grammar needs for a file of a few megabytes.
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from mm1cli.code.parsed import Parsed, parsed_from
from mm1cli.ingest.corpus import Document
from mm1cli.ingest.read import num_cores
from mm1cli.ingest.readers.reader import MIB, ReadError
from mm1cli.ingest.sandbox import Limits, Sandbox

LIMITS = Limits(wall_s=30.0, cpu_s=10, memory_bytes=1536 * MIB, reply_bytes=64 * MIB)
MAX_PARSED_BYTES = 16 * MIB
_IN_FLIGHT = 64  # files parsed ahead of the one that is given out


@dataclass(frozen=True, slots=True)
class Unparsed:
    """Why nothing is known of the inside of a file."""

    why: str


Outcome = Parsed | Unparsed


def parse_all(
    jobs: Sequence[tuple[Document, str]],
    *,
    limits: Limits = LIMITS,
    num_workers: int | None = None,
) -> Iterator[Outcome]:
    """One outcome for each document and the name of its task, in their order."""
    with _Pool(limits, min(num_workers or num_cores(), max(len(jobs), 1))) as pool:
        waiting: deque[Future[Outcome]] = deque()
        for document, task in jobs:
            waiting.append(pool.submit(document, task))
            if len(waiting) > _IN_FLIGHT:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def source_text(document: Document) -> str:
    """Line n of it is line n of the file: a text file is one block from line 1."""
    return "\n".join(block.text for block in document.blocks)


@dataclass(slots=True)
class _Pool:
    limits: Limits
    num_workers: int
    _mine: threading.local = field(default_factory=threading.local)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _sandboxes: list[Sandbox] = field(default_factory=list)
    _threads: ThreadPoolExecutor = field(init=False)

    def __enter__(self) -> "_Pool":
        self._threads = ThreadPoolExecutor(self.num_workers, thread_name_prefix="parser")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            with self._lock:
                for sandbox in self._sandboxes:
                    sandbox.abort()
        self._threads.shutdown(cancel_futures=True)
        for sandbox in self._sandboxes:
            sandbox.close()

    def submit(self, document: Document, task: str) -> "Future[Outcome]":
        return self._threads.submit(self._parse, document, task)

    def _parse(self, document: Document, task: str) -> Outcome:
        data = source_text(document).encode()
        if len(data) > MAX_PARSED_BYTES:
            return Unparsed(f"more than {MAX_PARSED_BYTES // MIB} MiB")
        try:
            return self._sandbox().ask(task, data, parsed_from)
        except ReadError as error:
            return Unparsed(f"{error.reason}: {error.detail}" if error.detail else error.reason)

    def _sandbox(self) -> Sandbox:
        sandbox: Sandbox | None = getattr(self._mine, "sandbox", None)
        if sandbox is None:
            sandbox = Sandbox(limits=self.limits, child_module="mm1cli.code.child")
            self._mine.sandbox = sandbox
            with self._lock:
                self._sandboxes.append(sandbox)
        return sandbox
