"""The one way out. Commands and `answer.py` speak to a `Sink`; which one is a matter of flags.

Sinks: `terminal.Terminal` (people), `events.JsonObject` (--json), `events.JsonLines`
(--format jsonl), and `report.Report` (--report) beside one of these in a `tee.Tee`. Answers go to
stdout, everything else to stderr; text that comes from a model or a document is never interpreted
as markup, and its control characters are made visible.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mm1cli.ingest.corpus import Corpus
from mm1cli.ingest.manifest import Manifest
from mm1cli.result import Answer, Citation

if TYPE_CHECKING:
    from mm1cli.review.finding import Review

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a run is about to do, and the name of the model it is for."""

    command: str
    model: str


class Sink(Protocol):
    """Calls come in the order init, manifest, corpus, then any mix of progress, note, thinking,
    token, citation and answer, then close. `token` pieces of one answer, joined, are that answer's
    text; what the model thinks before it is never among them. No call may change its arguments.
    `close` is called exactly once, also after an error, and leaves the terminal as it found it."""

    def init(self, run: RunInfo) -> None: ...

    def manifest(self, manifest: Manifest, *, show: bool) -> None:
        """Every run has one; `show` says the user asked to see it (--dry-run, `mm1 tokens`)."""

    def corpus(self, corpus: Corpus, tokens: Sequence[int]) -> None:
        """What citations point into, in the order of the context; `tokens[i]` are of document i.
        Only a run that answers has one."""

    def note(self, text: str) -> None:
        """One line the user must know: what is left out, why a plan was chosen."""

    def progress(self, stage: str, done: int, total: int, unit: str) -> None:
        """`stage` names the work ("reading", "prefill"); done == total ends it."""

    def question(self, question: str, index: int, count: int) -> None:
        """The tokens and citations that follow belong to this question (index from 0)."""

    def thinking(self, text: str) -> None:
        """What the model writes before its answer, piece by piece; only if the user asked for it.
        It comes before the tokens of the answer and is no part of it."""

    def token(self, text: str) -> None: ...

    def citation(self, citation: Citation) -> None: ...

    def answer(self, answer: Answer) -> None:
        """The finished answer; its tokens and citations have been sent before."""

    def review(self, review: "Review") -> None:
        """What `mm1 review` found; the only answer of that command."""

    def error(self, message: str, exit_code: int) -> None: ...

    def close(self) -> None: ...
