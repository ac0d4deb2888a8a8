"""The one way out. Commands and `answering` speak to a `Sink`; which one is a matter of flags.

Sinks: `terminal.Terminal` (people), `events.JsonObject` (--json), `events.JsonLines`
(--format jsonl), and `report.Report` (--report) beside one of these in a `tee.Tee`. Answers go to
stdout, everything else to stderr; text that comes from a model or a document is never interpreted
as markup, and its control characters are made visible.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mm1cli.ingest.corpus import Corpus
from mm1cli.ingest.manifest import Manifest
from mm1cli.result import Answer, Citation
from mm1cli.review.finding import Review

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a run is about to do, and the name of the model it is for."""

    command: str
    model: str


@dataclass(frozen=True, slots=True)
class ManifestEvent:
    """Every run has one; `show` says the user asked to see it (--dry-run, `mm1 tokens`)."""

    manifest: Manifest
    show: bool


@dataclass(frozen=True, slots=True)
class CorpusEvent:
    """What citations point into, in the order of the context; `tokens[i]` are of document i.
    Only a run that answers has one."""

    corpus: Corpus
    tokens: Sequence[int]


@dataclass(frozen=True, slots=True)
class NoteEvent:
    """One line the user must know: what is left out, why a plan was chosen."""

    text: str


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """`stage` names the work ("reading", "prefill"); done == total ends it, 0 is not known."""

    stage: str
    done: int
    total: int
    unit: str


@dataclass(frozen=True, slots=True)
class QuestionEvent:
    """The tokens and citations that follow belong to this question (index from 0)."""

    question: str
    index: int
    count: int


@dataclass(frozen=True, slots=True)
class ThinkingEvent:
    """A piece of what the model decodes before its answer; only if the user asked for it."""

    text: str


@dataclass(frozen=True, slots=True)
class TokenEvent:
    text: str


@dataclass(frozen=True, slots=True)
class ToolEvent:
    """A tool that the model called, with what, and what it was told."""

    name: str
    arguments: Mapping[str, object]
    result: str
    is_error: bool


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    message: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class CloseEvent:
    pass


Event = (
    RunInfo
    | ManifestEvent
    | CorpusEvent
    | NoteEvent
    | ProgressEvent
    | QuestionEvent
    | ThinkingEvent
    | TokenEvent
    | ToolEvent
    | Citation
    | Answer  # finished: its tokens and citations have come before
    | Review  # the only answer of `mm1 review`
    | ErrorEvent
    | CloseEvent
)


class Sink(ABC):
    """Events come in the order init, manifest, corpus, then any mix of progress, note, thinking,
    token, citation and answer, then close. `token` pieces of one answer, joined, are that answer's
    text; what the model thinks before it is never among them. No sink may change an event.
    `close` comes exactly once, also after an error, and leaves the terminal as it found it."""

    @abstractmethod
    def emit(self, event: Event) -> None:
        """Shows or keeps `event`; one that is of no use to this sink is ignored."""

    def init(self, run: RunInfo) -> None:
        self.emit(run)

    def manifest(self, manifest: Manifest, *, show: bool) -> None:
        self.emit(ManifestEvent(manifest, show))

    def corpus(self, corpus: Corpus, tokens: Sequence[int]) -> None:
        self.emit(CorpusEvent(corpus, tokens))

    def note(self, text: str) -> None:
        self.emit(NoteEvent(text))

    def progress(self, stage: str, done: int, total: int, unit: str) -> None:
        self.emit(ProgressEvent(stage, done, total, unit))

    def question(self, question: str, index: int, count: int) -> None:
        self.emit(QuestionEvent(question, index, count))

    def thinking(self, text: str) -> None:
        self.emit(ThinkingEvent(text))

    def token(self, text: str) -> None:
        self.emit(TokenEvent(text))

    def tool(self, event: ToolEvent) -> None:
        self.emit(event)

    def citation(self, citation: Citation) -> None:
        self.emit(citation)

    def answer(self, answer: Answer) -> None:
        self.emit(answer)

    def review(self, review: Review) -> None:
        self.emit(review)

    def error(self, message: str, exit_code: int) -> None:
        self.emit(ErrorEvent(message, exit_code))

    def close(self) -> None:
        self.emit(CloseEvent())
