"""From paths to a `Corpus`: every file seen becomes a document or an omission.

Files are read by as many threads as there are cores, each with a sandbox of its own, and given out
in the order of the walk; whoever takes them can tokenise one while the next are read.
"""

import os
import stat
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import BinaryIO

from engine.api import usable_cores
from mm1cli.errors import InputError
from mm1cli.ingest.cache import Cache
from mm1cli.ingest.confine import Trust
from mm1cli.ingest.containers import ContainerExpansion
from mm1cli.ingest.corpus import Corpus, Document, Omission, Reason
from mm1cli.ingest.display_names import one_line
from mm1cli.ingest.path_filter import PathFilter
from mm1cli.ingest.private_names import private_kind
from mm1cli.ingest.readers import HEAD_BYTES, ReadError, choose
from mm1cli.ingest.readers.reader import MIB
from mm1cli.ingest.sandbox import Sandbox
from mm1cli.ingest.sandboxes import Sandboxes
from mm1cli.ingest.walk import ALL, STDIN, Found, OnFound, walk

# A pipe that opens for reading would wait for a writer; Windows has no such flag and no such pipe.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_IN_FLIGHT = 64  # files read ahead of the one that is given out

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """`num_workers` files are read at once; None is as many as this process has cores. For
    `names` see `walk`. What is not wanted, by its name, is passed over without a word.
    Files whose `order` is the same come together, by that and else as they are walked."""

    path_filter: PathFilter = ALL
    allow_secrets: bool = False
    ocr: bool = False
    convert: bool = False
    cache: Cache | None = None
    num_workers: int | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    is_wanted: Callable[[str], bool] | None = None
    order: Callable[[str], str] | None = None


DEFAULTS = ReadOptions()


def read_corpus(
    paths: Sequence[str],
    *,
    options: ReadOptions = DEFAULTS,
    stdin: BinaryIO | None = None,
    on_progress: OnProgress | None = None,
) -> Corpus:
    """Reads the files and folders at `paths`; "-" is `stdin`, which is not touched otherwise.

    Documents and omissions are in the order of `walk`: arguments as given, inside a folder by the
    bytes of the path. `on_progress(done, total)` counts files; it is called with 0 first, and not
    at all when there is nothing to read. Raises InputError for a path that does not exist, before
    any file is read. A corpus without documents is no error here.
    """
    outcomes = list(read_files(paths, options=options, stdin=stdin, on_progress=on_progress))
    documents = tuple(outcome for outcome in outcomes if isinstance(outcome, Document))
    omissions = tuple(outcome for outcome in outcomes if isinstance(outcome, Omission))
    return Corpus(documents, omissions)


def read_files(
    paths: Sequence[str],
    *,
    options: ReadOptions = DEFAULTS,
    stdin: BinaryIO | None = None,
    on_progress: OnProgress | None = None,
    on_found: OnFound | None = None,
) -> Generator[Document | Omission, None, None]:
    """As `read_corpus`, one after the other; for `on_found` see `walk`. What is raised there is
    raised by the call itself; reading begins with the first one that is taken, and stops when the
    iterator is closed."""
    if STDIN in paths and stdin is None:
        raise InputError("- stands for standard input, and there is none; name a file or a folder")
    found = walk(paths, options.path_filter, options.names, on_found)
    if (is_wanted := options.is_wanted) is not None:
        found = [one for one in found if is_wanted(_name(one))]
    if (order := options.order) is not None:
        found.sort(key=lambda one: order(_name(one)))
    return _in_order(found, options, stdin, on_progress)


def _name(found: Found | Omission) -> str:
    return found.shown if isinstance(found, Found) else found.path


def _in_order(
    results: list[Found | Omission],
    options: ReadOptions,
    stdin: BinaryIO | None,
    on_progress: OnProgress | None,
) -> Generator[Document | Omission, None, None]:
    total = sum(isinstance(result, Found) for result in results)
    if on_progress is not None and total:
        on_progress(0, total)
    done = 0
    make = partial(Sandbox, trust=Trust.OCR if options.ocr else Trust.READER)
    with Sandboxes(make, min(options.num_workers or usable_cores(), total)) as sandboxes:

        def outcome(result: Found | Omission) -> Omission | Future[list[Document | Omission]]:
            if isinstance(result, Omission):
                return result
            return sandboxes.submit(partial(_read, result, options, stdin))

        waiting: deque[Omission | Future[list[Document | Omission]]] = deque()
        left = iter(results)
        while True:
            while len(waiting) < _IN_FLIGHT and (result := next(left, None)) is not None:
                waiting.append(outcome(result))
            if not waiting:
                break
            first = waiting.popleft()
            if isinstance(first, Omission):
                yield first
                continue
            outcomes = first.result()
            done += 1
            if on_progress is not None:
                on_progress(done, total)
            yield from outcomes
    if options.cache is not None:
        options.cache.prune()


def _read(
    found: Found, options: ReadOptions, stdin: BinaryIO | None, sandbox: Sandbox
) -> list[Document | Omission]:
    """The file, and after it what it contains, if it is a container."""
    num_bytes = None
    private = private_kind(found.path) if found.path != STDIN else ""
    if private and not (found.is_named or options.allow_secrets):
        detail = f"looks private: {private}; name the file itself, or --allow-secrets reads it"
        return [Omission(found.shown, Reason.SECRET, detail)]
    unfolding = ContainerExpansion(
        sandbox,
        cache=options.cache,
        ocr=options.ocr,
        convert=options.convert,
        allow_secrets=options.allow_secrets,
    )
    try:
        if found.path == STDIN:
            assert stdin is not None
            data = _read_stream(found, stdin, options)
        else:
            with _open(found.path) as stream:
                num_bytes = os.fstat(stream.fileno()).st_size
                data = _read_stream(found, stream, options)
        outcomes = list(unfolding.expand(found.shown, data))
        if private and outcomes and isinstance(first := outcomes[0], Document):
            told = f"looks private: {private}; read, as it was asked for"
            outcomes[0] = replace(first, warnings=(*first.warnings, told))
        return outcomes
    except ReadError as error:
        return [Omission(found.shown, error.reason, error.detail, num_bytes)]
    except OSError as error:
        detail = one_line(error.strerror or type(error).__name__)
        return [Omission(found.shown, Reason.UNREADABLE, detail, num_bytes)]
    finally:
        if unfolding.is_suspect:
            sandbox.replace()


def _open(path: str) -> BinaryIO:
    descriptor = os.open(path, _OPEN_FLAGS)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ReadError(Reason.NOT_A_FILE, "changed while it was read")
    return os.fdopen(descriptor, "rb")


def _read_stream(found: Found, stream: BinaryIO, options: ReadOptions) -> bytes:
    """All of it. Raises ReadError, before most of it is read: UNSUPPORTED, TOO_LARGE."""
    head = _read_up_to(stream, HEAD_BYTES)
    reader, _ = choose(found.shown, head, converts=options.convert)
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
