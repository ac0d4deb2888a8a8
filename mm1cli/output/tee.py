"""One run, several sinks: what people or programs follow, and the report beside it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mm1cli.ingest.corpus import Corpus
from mm1cli.ingest.manifest import Manifest
from mm1cli.result import Answer, Citation
from mm1cli.sink import RunInfo, Sink

if TYPE_CHECKING:
    from mm1cli.review.finding import Review


class Tee:
    """Implements `Sink`: every call goes to each of `sinks`, in their order."""

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks

    def init(self, run: RunInfo) -> None:
        for sink in self._sinks:
            sink.init(run)

    def manifest(self, manifest: Manifest, *, show: bool) -> None:
        for sink in self._sinks:
            sink.manifest(manifest, show=show)

    def corpus(self, corpus: Corpus, tokens: Sequence[int]) -> None:
        for sink in self._sinks:
            sink.corpus(corpus, tokens)

    def note(self, text: str) -> None:
        for sink in self._sinks:
            sink.note(text)

    def progress(self, stage: str, done: int, total: int, unit: str) -> None:
        for sink in self._sinks:
            sink.progress(stage, done, total, unit)

    def question(self, question: str, index: int, count: int) -> None:
        for sink in self._sinks:
            sink.question(question, index, count)

    def thinking(self, text: str) -> None:
        for sink in self._sinks:
            sink.thinking(text)

    def token(self, text: str) -> None:
        for sink in self._sinks:
            sink.token(text)

    def citation(self, citation: Citation) -> None:
        for sink in self._sinks:
            sink.citation(citation)

    def answer(self, answer: Answer) -> None:
        for sink in self._sinks:
            sink.answer(answer)

    def review(self, review: "Review") -> None:
        for sink in self._sinks:
            sink.review(review)

    def error(self, message: str, exit_code: int) -> None:
        for sink in self._sinks:
            sink.error(message, exit_code)

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()
