"""The sink behind -o: a file about the run, of the form that its ending names.

The path is tried before the work begins, and the file is put there whole, by a rename. Only a file
that mm1 wrote, or an empty one, is replaced.
"""

import io
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from engine import durable
from mm1cli.errors import Mm1Error, UsageError
from mm1cli.output.citation_context import Sources
from mm1cli.output.events import JsonLines, JsonObject
from mm1cli.output.page import Collected, Option, render
from mm1cli.output.terminal import Terminal
from mm1cli.output.text import Channel
from mm1cli.result import Answer
from mm1cli.review.finding import Review
from mm1cli.sink import (
    CloseEvent,
    CorpusEvent,
    ErrorEvent,
    Event,
    ManifestEvent,
    NoteEvent,
    RunInfo,
    Sink,
    ThinkingEvent,
)

ANSWERS = (".md", ".docx", ".html", ".txt", ".json", ".jsonl", ".csv")
REVIEWS = (".md", ".html", ".txt", ".json", ".jsonl", ".sarif")
_HEAD_BYTES = 512
_MARKS = {  # what a file of that ending begins with if mm1 wrote it
    ".html": b'<meta name="generator" content="mm1 report">',
    ".json": b'{"schema_version": ',
    ".jsonl": b'{"type": "init", "schema_version": ',
    ".md": b"<!-- by mm1 -->",
    ".txt": b"mm1 ",
    ".csv": b",sources\r\n",
    ".sarif": b'"$schema": "https://json.schemastore.org/sarif-2.1.0.json"',
}
_WORD_MARK = b"<cp:lastModifiedBy>mm1</cp:lastModifiedBy>"
_WORD_PART = "docProps/core.xml"


class OutputFile(Sink):
    """Shows nothing. `write` puts the file in its place."""

    def __init__(
        self,
        path: Path,
        *,
        made: datetime,
        version: str,
        options: Sequence[Option] = (),
        endings: Sequence[str] = (),
        flag: str = "-o",
    ) -> None:
        """`endings` are those that there may be; of a single one the path needs none. Raises
        UsageError for another, and if nothing may be written at `path`."""
        self.path = path
        ending = endings[0] if len(endings) == 1 else path.suffix.lower()
        if ending not in (endings or ANSWERS):
            names = ", ".join(endings or ANSWERS)
            raise UsageError(f"{flag} {path}: the ending says what to write: {names}")
        self._target = _checked(path, ending, flag)
        self._form: Form = _FORMS[ending](Collected(made, version, options))
        self.has_answers = False  # a review is one

    def write(self) -> None:
        """The file of all that was answered so far, whole or not at all. Raises Mm1Error."""
        content = self._form.content()
        try:
            durable.write(self._target, lambda part: part.write_bytes(content), is_private=False)
        except OSError as error:
            raise Mm1Error(f"{self.path} cannot be written: {error.strerror}") from None

    def emit(self, event: Event) -> None:
        self.has_answers |= isinstance(event, Answer | Review)
        self._form.emit(event)


class Form(Sink):
    """Keeps what it is told, and says what the file holds. A file of answers has no thinking."""

    def content(self) -> bytes:
        raise NotImplementedError


class _Collector(Form):
    """A file that is laid out when all is known."""

    def __init__(self, collected: Collected, render: Callable[[Collected], bytes]) -> None:
        self._collected, self._render = collected, render

    def content(self) -> bytes:
        return self._render(self._collected)

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


class _Stream(Form):
    """What another sink writes to a stream."""

    def __init__(self, make: Callable[[Channel], Sink], head: str = "") -> None:
        self._text = io.StringIO()
        self._head = head
        self._sink = make(Channel(self._text))

    def content(self) -> bytes:
        self._sink.emit(CloseEvent())
        return (self._head + self._text.getvalue()).encode("utf-8", "backslashreplace")

    def emit(self, event: Event) -> None:
        if not isinstance(event, CloseEvent | ThinkingEvent):
            self._sink.emit(event)


class _Nowhere(Sink):
    def emit(self, event: Event) -> None:
        """What is said beside the JSON is said on the screen already."""


def _html(collected: Collected) -> Form:
    return _Collector(collected, lambda all_: render(all_).encode("utf-8", "backslashreplace"))


def _docx(collected: Collected) -> Form:
    from mm1cli.output.word import word_document

    return _Collector(collected, word_document)


def _md(collected: Collected) -> Form:
    from mm1cli.output.answers_markdown import answers_markdown

    mark = _MARKS[".md"].decode()
    return _Collector(collected, lambda all_: f"{mark}\n{answers_markdown(all_)}".encode())


def _csv(collected: Collected) -> Form:
    from mm1cli.output.answers_csv import answers_csv

    return _Collector(collected, answers_csv)


def _txt(collected: Collected) -> Form:
    head = f"mm1 {collected.version}, {collected.made:%Y-%m-%d %H:%M}\n\n"
    return _Stream(lambda channel: Terminal(channel, channel, quiet=True), head)


def _json(_: Collected) -> Form:
    return _Stream(lambda channel: JsonObject(channel, _Nowhere()))


def _jsonl(_: Collected) -> Form:
    return _Stream(lambda channel: JsonLines(channel, _Nowhere(), quiet=True))


def _sarif(collected: Collected) -> Form:
    from mm1cli.output.sarif import sarif_text

    def text(all_: Collected) -> bytes:
        assert all_.review is not None, "only a review is written as SARIF"
        return sarif_text(all_.review, all_.run.model).encode()

    return _Collector(collected, text)


_FORMS: dict[str, Callable[[Collected], Form]] = {
    ".csv": _csv,
    ".docx": _docx,
    ".html": _html,
    ".json": _json,
    ".jsonl": _jsonl,
    ".md": _md,
    ".sarif": _sarif,
    ".txt": _txt,
}


def _checked(path: Path, ending: str, flag: str) -> Path:
    """Where the file goes, links followed. Raises UsageError."""
    target = path.expanduser().resolve()
    try:
        if target.is_dir():
            raise UsageError(f"{flag} {path}: is a folder; name a file, such as answers.md")
        if target.exists() and not target.is_file():
            raise UsageError(f"{flag} {path}: is no ordinary file; name another")
        if target.is_file() and not _is_ours(target, ending):
            raise UsageError(
                f"{flag} {path}: there is a file that mm1 did not write; move it away or name "
                "another"
            )
        if not target.parent.is_dir():
            raise UsageError(f"{flag} {path}: there is no folder {path.parent}; make it first")
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise UsageError(
            f"{flag} {path}: cannot be written ({error.strerror}); name another"
        ) from None
    return target


def _is_ours(path: Path, ending: str) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        return True
    if ending != ".docx":
        return _MARKS[ending] in head
    with (
        suppress(zipfile.BadZipFile, KeyError),
        zipfile.ZipFile(path) as package,
        package.open(_WORD_PART) as part,
    ):
        return _WORD_MARK in part.read(10_000)
    return False
