"""From paths to a `Corpus`: every file seen becomes a document or an omission."""

import os
import stat
from collections.abc import Callable, Sequence
from typing import BinaryIO

from mm1cli.errors import InputError
from mm1cli.ingest.corpus import Corpus, Document, Omission, Reason
from mm1cli.ingest.names import one_line
from mm1cli.ingest.readers import HEAD_BYTES, ReadError, choose
from mm1cli.ingest.readers.reader import MIB
from mm1cli.ingest.sandbox import Sandbox
from mm1cli.ingest.unfold import unfold
from mm1cli.ingest.walk import STDIN, Found, walk

# A pipe that opens for reading would wait for a writer; Windows has no such flag and no such pipe.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def read_corpus(
    paths: Sequence[str],
    *,
    stdin: BinaryIO | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Corpus:
    """Reads the files and folders at `paths`; "-" is `stdin`, which is not touched otherwise.

    Documents and omissions are in the order of `walk`: arguments as given, inside a folder by the
    bytes of the path. `on_progress(done, total)` counts files; it is called with 0 first, and not
    at all when there is nothing to read. Raises InputError for a path that does not exist, before
    any file is read. A corpus without documents is no error here.
    """
    if STDIN in paths and stdin is None:
        raise InputError("- stands for standard input, and there is none; name a file or a folder")
    results = walk(paths)
    total = sum(isinstance(result, Found) for result in results)
    if on_progress is not None and total:
        on_progress(0, total)
    outcomes: list[Document | Omission] = []
    done = 0
    with Sandbox() as sandbox:
        for result in results:
            if isinstance(result, Omission):
                outcomes.append(result)
                continue
            outcomes += _read(result, stdin, sandbox)
            done += 1
            if on_progress is not None:
                on_progress(done, total)
    documents = tuple(outcome for outcome in outcomes if isinstance(outcome, Document))
    omissions = tuple(outcome for outcome in outcomes if isinstance(outcome, Omission))
    return Corpus(documents, omissions)


def _read(found: Found, stdin: BinaryIO | None, sandbox: Sandbox) -> list[Document | Omission]:
    """The file, and after it what it contains, if it is a container."""
    num_bytes = None
    try:
        if found.path == STDIN:
            assert stdin is not None
            data = _read_stream(found, stdin)
            return list(unfold(found.shown, data, sandbox))
        with _open(found.path) as stream:
            num_bytes = os.fstat(stream.fileno()).st_size
            data = _read_stream(found, stream)
        return list(unfold(found.shown, data, sandbox))
    except ReadError as error:
        return [Omission(found.shown, error.reason, error.detail, num_bytes)]
    except OSError as error:
        detail = one_line(error.strerror or type(error).__name__)
        return [Omission(found.shown, Reason.UNREADABLE, detail, num_bytes)]


def _open(path: str) -> BinaryIO:
    descriptor = os.open(path, _OPEN_FLAGS)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ReadError(Reason.NOT_A_FILE, "changed while it was read")
    return os.fdopen(descriptor, "rb")


def _read_stream(found: Found, stream: BinaryIO) -> bytes:
    """All of it. Raises ReadError, before most of it is read: UNSUPPORTED, TOO_LARGE."""
    head = _read_up_to(stream, HEAD_BYTES)
    reader, _ = choose(found.shown, head)
    data = head + _read_up_to(stream, reader.max_bytes + 1 - len(head))
    if len(data) > reader.max_bytes:
        raise ReadError(Reason.TOO_LARGE, f"more than {reader.max_bytes // MIB} MiB")
    return data


def _read_up_to(stream: BinaryIO, num_bytes: int) -> bytes:
    """Fewer bytes only at the end; a pipe gives less than it is asked for."""
    pieces = []
    while num_bytes > 0 and (piece := stream.read(num_bytes)):
        pieces.append(piece)
        num_bytes -= len(piece)
    return b"".join(pieces)
