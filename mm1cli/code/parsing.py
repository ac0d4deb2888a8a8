"""Source files through the parser's child processes, all cores at once.

Someone else's code is hostile input to a native parser: see `parse`. So it runs in the sandbox that
reads documents, with a smaller purse: what a grammar needs for a file of a few megabytes.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from engine.api import usable_cores
from mm1cli.code.parsed import Parsed, parsed_from
from mm1cli.ingest.corpus import Document
from mm1cli.ingest.readers.reader import MIB, ReadError
from mm1cli.ingest.sandbox import Limits, Sandbox
from mm1cli.ingest.sandboxes import Sandboxes

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
    make = partial(Sandbox, limits=limits, child_module="mm1cli.code.child")
    with Sandboxes(make, min(num_workers or usable_cores(), len(jobs))) as sandboxes:
        waiting: deque[Future[Outcome]] = deque()
        for document, task in jobs:
            waiting.append(sandboxes.submit(partial(_parse, document, task)))
            if len(waiting) > _IN_FLIGHT:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def source_text(document: Document) -> str:
    """Line n of it is line n of the file: a text file is one block from line 1."""
    return "\n".join(block.text for block in document.blocks)


def _parse(document: Document, task: str, sandbox: Sandbox) -> Outcome:
    data = source_text(document).encode()
    if len(data) > MAX_PARSED_BYTES:
        return Unparsed(f"more than {MAX_PARSED_BYTES // MIB} MiB")
    try:
        return sandbox.ask(task, data, parsed_from)
    except ReadError as error:
        return Unparsed(f"{error.reason}: {error.detail}" if error.detail else error.reason)
