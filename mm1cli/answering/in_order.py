"""Answers that are written at the same time, told one after another.

The first one that is not finished is told as it comes. What the others say meanwhile is kept until
it is their turn.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from mm1cli.ingest.corpus import Corpus
from mm1cli.ingest.manifest import Manifest
from mm1cli.result import Answer, Citation
from mm1cli.sink import RunInfo, Sink

if TYPE_CHECKING:
    from mm1cli.review.finding import Review


class OrderedSink:
    """Implements `Sink` for one question; `on_end` is called behind its answer.

    Progress is not kept: whose turn it is shows its own.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._kept: list[Callable[[], None]] = []
        self._has_begun = False
        self.on_end: Callable[[], None] = lambda: None

    def begin(self) -> None:
        """Tells what was kept, and from now on everything as it comes."""
        self._has_begun = True
        kept, self._kept = self._kept, []
        for tell in kept:
            tell()

    def _tell(self, tell: Callable[[], None]) -> None:
        if self._has_begun:
            tell()
        else:
            self._kept.append(tell)

    def init(self, run: RunInfo) -> None:
        self._tell(partial(self._sink.init, run))

    def manifest(self, manifest: Manifest, *, show: bool) -> None:
        self._tell(partial(self._sink.manifest, manifest, show=show))

    def corpus(self, corpus: Corpus, tokens: Sequence[int]) -> None:
        self._tell(partial(self._sink.corpus, corpus, tokens))

    def note(self, text: str) -> None:
        self._tell(partial(self._sink.note, text))

    def progress(self, stage: str, done: int, total: int, unit: str) -> None:
        if self._has_begun:
            self._sink.progress(stage, done, total, unit)

    def question(self, question: str, index: int, count: int) -> None:
        self._tell(partial(self._sink.question, question, index, count))

    def thinking(self, text: str) -> None:
        self._tell(partial(self._sink.thinking, text))

    def token(self, text: str) -> None:
        self._tell(partial(self._sink.token, text))

    def citation(self, citation: Citation) -> None:
        self._tell(partial(self._sink.citation, citation))

    def answer(self, answer: Answer) -> None:
        self._tell(partial(self._sink.answer, answer))
        self._tell(self.on_end)

    def review(self, review: "Review") -> None:
        self._tell(partial(self._sink.review, review))

    def error(self, message: str, exit_code: int) -> None:
        self._tell(partial(self._sink.error, message, exit_code))

    def close(self) -> None:
        self._tell(self._sink.close)


def in_order(sink: Sink, questions: Sequence[str]) -> list[OrderedSink]:
    """A sink for each question, which `sink` is told of in their order; the first begins now."""
    turns = [OrderedSink(sink) for _ in questions]
    for index, (question, turn) in enumerate(zip(questions, turns, strict=True)):
        turn.question(question, index, len(questions))
        if index + 1 < len(turns):
            turn.on_end = turns[index + 1].begin
    turns[0].begin()
    return turns
