"""`mm1 read` and `mm1 tokens --text`: the text a model would get, each place named."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from mm1cli.commands.checks import NO_FILES, NOTHING_READABLE, require_whole
from mm1cli.commands.reading import Reading, Sources, outcomes
from mm1cli.errors import InputError, UsageError
from mm1cli.ingest.corpus import Document, Omission, Unread
from mm1cli.ingest.pack import contents_text, document_text
from mm1cli.settings import Settings
from mm1cli.sink import Sink

_MOST_NAMED = 5


def run(sources: Sources, settings: Settings, sink: Sink) -> None:
    """Each document as soon as it is read; no model is looked at."""
    lost: list[Omission] = []
    unread: list[tuple[str, str]] = []
    num_seen = num_read = 0
    with closing(outcomes(sources, settings, sink)) as found:
        for one in found:
            num_seen += 1
            if isinstance(one, Document):
                num_read += bool(one.blocks)
                unread += [(one.path, told) for told in one.warnings if isinstance(told, Unread)]
                sink.token(document_text(one))
                _note_warnings(one, sink)
            else:
                lost.append(one)
    for omission in lost[:_MOST_NAMED]:
        detail = f" ({omission.detail})" if omission.detail else ""
        sink.note(f"not read: {omission.path}: {omission.reason}{detail}")
    if (more := len(lost) - _MOST_NAMED) > 0:
        sink.note(f"and {more:,} more; `mm1 tokens` lists each with its reason")
    if not num_read and not lost:
        raise InputError(NO_FILES)
    if not num_read:
        raise InputError(f"{NOTHING_READABLE}: {len(lost):,} seen, all left out")
    if settings.strict:
        require_whole([(one.path, one.reason) for one in lost], unread, num_seen)


def _note_warnings(document: Document, sink: Sink) -> None:
    """What of it a model would not get, or not for sure."""
    for warning in document.warnings[:_MOST_NAMED]:
        sink.note(f"{document.path}: {warning}")
    if (more := len(document.warnings) - _MOST_NAMED) > 0:
        sink.note(f"{document.path}: {more:,} more; `mm1 tokens` lists each")


def write(reading: Reading, path: Path, sink: Sink) -> None:
    """Writes all that `reading` packs, in its order. Raises UsageError."""
    try:
        with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(_texts(reading))
    except OSError as error:
        raise UsageError(f"--text {path}: cannot be written ({error.strerror})") from None
    sink.note(f"written: {path}")


def _texts(reading: Reading) -> Iterator[str]:
    documents = reading.packed.corpus.documents
    if reading.packed.contents_ids:
        yield contents_text(documents, len(documents))
    yield from map(document_text, documents)
