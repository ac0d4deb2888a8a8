"""The sinks for programs: one JSON object (--json), or one JSON event per line (--format jsonl).
Their fields are described in docs/output.md and docs/output.schema.json.

stdout holds nothing but JSON. Errors, and for the one object notes and progress too, are also told
on stderr in words, as by a run without a terminal.
"""

import json
import math
from collections import Counter
from dataclasses import fields, is_dataclass
from enum import Enum

from mm1cli.ingest.corpus import Locator
from mm1cli.ingest.manifest import Manifest, ReadingPlan
from mm1cli.output.text import Channel
from mm1cli.result import Answer, Citation
from mm1cli.review.finding import Review
from mm1cli.sink import (
    SCHEMA_VERSION,
    CloseEvent,
    ErrorEvent,
    Event,
    ManifestEvent,
    NoteEvent,
    ProgressEvent,
    QuestionEvent,
    RunInfo,
    Sink,
    ThinkingEvent,
    TokenEvent,
    ToolEvent,
)

# JSON may hold these raw, but a terminal that shows it, or a reader that splits lines, must not
# see them. They can stand only inside strings, where the escape means the same.
_RAW_IN_JSON = (*range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_RUNNER_WORD, _RUNNER_WORD_ESCAPED = "##[", r"##\u005b"  # GitHub's runner obeys it anywhere
_ESCAPED_IN_JSON = {code: f"\\u{code:04x}" for code in _RAW_IN_JSON}
# The `type` of events that are lines as they are.
_TYPES: dict[type[Event], str] = {
    RunInfo: "init",
    NoteEvent: "note",
    ProgressEvent: "progress",
    QuestionEvent: "question",
    ThinkingEvent: "thinking",
    TokenEvent: "token",
    ToolEvent: "tool",
    Citation: "citation",
    ErrorEvent: "error",
}


def plain(value: object) -> object:
    """`value` as JSON knows it: dataclasses by field, enums by value, NaN and infinity as null,
    lone surrogates (which UTF-8 cannot carry) spelled out. A locator also says how it reads."""
    match value:
        case Enum():
            return plain(value.value)
        case str():
            return value.encode("utf-8", "backslashreplace").decode("utf-8")
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {str(plain(key)): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case None | bool() | int():
            return value
    if is_dataclass(value):
        named = {entry.name: plain(getattr(value, entry.name)) for entry in fields(value)}
        if isinstance(value, Locator):
            named["display"] = plain(str(value))
        return named
    raise TypeError(f"{type(value).__name__} has no JSON form")


def write_line(channel: Channel, value: object) -> None:
    """Write `value` as one line of JSON, now."""
    encoding = (channel.stream.encoding or "utf-8").lower()
    text = json.dumps(plain(value), ensure_ascii=not encoding.startswith("utf"), allow_nan=False)
    channel.write(escaped(text) + "\n")


def escaped(json_text: str) -> str:
    """The same JSON, which nothing that shows it can take for more than text."""
    text = json_text.replace(_RUNNER_WORD, _RUNNER_WORD_ESCAPED)
    return text.translate(_ESCAPED_IN_JSON)


class JsonObject(Sink):
    """Everything is kept until `close`, which writes the one object."""

    def __init__(self, stdout: Channel, aside: Sink) -> None:
        self._stdout = stdout
        self._aside = aside
        self._run: dict[str, object] = {}
        self._manifest: Manifest | None = None
        self._notes: list[str] = []
        self._num_notes_before = 0
        self._answers: list[dict[str, object]] = []
        self._error: dict[str, object] | None = None
        self._review: dict[str, object] = {}

    def emit(self, event: Event) -> None:
        match event:
            case RunInfo():
                self._run = _fields(event)
            case ManifestEvent():
                self._manifest = event.manifest
            case NoteEvent():
                self._notes.append(event.text)
            case QuestionEvent():
                self._num_notes_before = len(self._notes)
            case Answer():
                notes = self._notes[self._num_notes_before :]
                self._answers.append(answer_json(event, self._manifest) | {"notes": notes})
                self._num_notes_before = len(self._notes)
            case Review():
                self._review = _review_json(event)
            case ErrorEvent():
                self._error = _fields(event)
        if isinstance(event, NoteEvent | ProgressEvent | ThinkingEvent | ErrorEvent | CloseEvent):
            self._aside.emit(event)
        if isinstance(event, CloseEvent):
            self._write()

    def _write(self) -> None:
        whole: dict[str, object] = {"schema_version": SCHEMA_VERSION}
        if self._error is not None:
            whole["error"] = self._error
        whole |= self._run
        if self._manifest is not None:
            whole["manifest"] = self._manifest.as_json()
        whole |= self._review
        if self._answers or (self._error is None and not self._review):
            whole["answers"] = self._answers
        if len(self._answers) == 1:
            names = ("question", "answer", "citations", "usage", "not_read")
            whole |= {name: self._answers[0][name] for name in names}
        if self._notes or self._error is None:
            whole["notes"] = self._notes
        write_line(self._stdout, whole)


class JsonLines(Sink):
    """One object per event, as it happens; `quiet` leaves out progress."""

    def __init__(self, stdout: Channel, aside: Sink, *, quiet: bool = False) -> None:
        self._stdout = stdout
        self._aside = aside
        self._quiet = quiet
        self._manifest: Manifest | None = None

    def emit(self, event: Event) -> None:
        match event:
            case ManifestEvent():
                self._manifest = event.manifest
                self._write("manifest", event.manifest.as_json())
            case Answer():
                self._write("result", answer_json(event, self._manifest))
            case Review():
                for finding in event.findings:
                    self._write("finding", finding.as_json())
                self._write("result", _review_json(event))
            case ProgressEvent() if self._quiet:
                pass
            case _ if kind := _TYPES.get(type(event)):
                self._write(kind, _fields(event))
        if isinstance(event, ErrorEvent | CloseEvent):
            self._aside.emit(event)

    def _write(self, kind: str, body: dict[str, object]) -> None:
        write_line(self._stdout, {"type": kind, "schema_version": SCHEMA_VERSION} | body)


def _fields(value: Event) -> dict[str, object]:
    return {entry.name: getattr(value, entry.name) for entry in fields(value)}


def _review_json(review: Review) -> dict[str, object]:
    from mm1cli.output.review import as_json

    return as_json(review)


def answer_json(answer: Answer, manifest: Manifest | None) -> dict[str, object]:
    body = _fields(answer)
    first = {"question": body.pop("question"), "answer": body.pop("text")}
    left = [] if manifest is None else _not_read(answer, manifest)
    return first | body | {"not_read": left}


def _not_read(answer: Answer, manifest: Manifest) -> list[dict[str, object]]:
    """What this answer does not rest on: files that were left out and, where the corpus did not
    fit, the tokens of each document that were not chosen."""
    left: list[dict[str, object]] = [
        {"path": entry.path, "reason": entry.reason, "detail": entry.detail, "tokens": None}
        for entry in manifest.left_out
    ]
    if answer.plan is ReadingPlan.WHOLE:
        return left
    read = Counter[str]()
    for part in answer.read:
        read[part.path] += part.tokens
    for entry in manifest.read:
        tokens = entry.tokens - read[entry.path]
        if tokens > 0:
            reason = "read in part" if read[entry.path] else "not chosen"
            left.append({"path": entry.path, "reason": reason, "detail": "", "tokens": tokens})
    return left
