"""The sink behind --report: one self-contained HTML page about the run.

The path is tried before the work begins, and the page is put there whole, by a rename. Only a
report of ours, or an empty file, is replaced.
"""

import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from engine import durable
from mm1cli.errors import Mm1Error, UsageError
from mm1cli.output.citation_context import Sources
from mm1cli.output.page import Collected, Option, render
from mm1cli.result import Answer
from mm1cli.review.finding import Review
from mm1cli.sink import CorpusEvent, ErrorEvent, Event, ManifestEvent, NoteEvent, RunInfo, Sink

_OURS = b'<meta name="generator" content="mm1 report">'
_HEAD_BYTES = 512


class Report(Sink):
    """Shows nothing. `write` puts the page in its place."""

    def __init__(
        self, path: Path, *, made: datetime, version: str, options: Sequence[Option] = ()
    ) -> None:
        """Raises UsageError if nothing may be written at `path`."""
        self.path = path
        self._target = _checked(path)
        self._collected = Collected(made, version, options)

    @property
    def has_answers(self) -> bool:
        """A review is one."""
        return bool(self._collected.answers) or self._collected.review is not None

    def write(self) -> None:
        """The page of all that was answered so far, whole or not at all. Raises Mm1Error."""
        content = render(self._collected).encode("utf-8", "backslashreplace")
        try:
            durable.write(self._target, lambda part: part.write_bytes(content), is_private=False)
        except OSError as error:
            raise Mm1Error(f"{self.path}: the report cannot be written: {error.strerror}") from None

    def emit(self, event: Event) -> None:
        match event:
            case RunInfo():
                self._collected.run = event
            case ManifestEvent():
                self._collected.manifest = event.manifest
            case CorpusEvent():
                self._collected.sources = Sources(event.corpus, event.tokens)
            case NoteEvent():
                self._collected.notes.append(event.text)
            case Answer():
                self._collected.answers.append(event)
            case Review():
                self._collected.review = event
            case ErrorEvent():
                self._collected.errors.append(event.message)


def _checked(path: Path) -> Path:
    """Where the page goes, links followed. Raises UsageError."""
    target = path.expanduser().resolve()
    try:
        if target.is_dir():
            raise UsageError(f"--report {path}: is a folder; name a file, such as report.html")
        if target.exists() and not target.is_file():
            raise UsageError(f"--report {path}: is no ordinary file; name another")
        if target.is_file() and not _is_ours(target):
            raise UsageError(
                f"--report {path}: there is a file that is no report of mm1; "
                "move it away or name another"
            )
        if not target.parent.is_dir():
            raise UsageError(f"--report {path}: there is no folder {path.parent}; make it first")
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise UsageError(
            f"--report {path}: cannot be written ({error.strerror}); name another"
        ) from None
    return target


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    return not head or _OURS in head
