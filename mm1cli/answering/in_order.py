"""Answers that are decoded at the same time, shown one after another.

The first one that is not finished is shown as it comes. The events of the others wait.
"""

from collections.abc import Callable, Sequence

from mm1cli.result import Answer
from mm1cli.sink import Event, ProgressEvent, Sink


class OrderedSink(Sink):
    """The sink of one question; `on_end` is called behind its answer.

    Progress does not wait: whose turn it is shows its own.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._waiting: list[Event] = []
        self._has_begun = False
        self.on_end: Callable[[], None] = lambda: None

    def begin(self) -> None:
        """Emits what has waited, and from now on everything as it comes."""
        self._has_begun = True
        for event in self._waiting:
            self.emit(event)
        self._waiting.clear()

    def emit(self, event: Event) -> None:
        if self._has_begun:
            self._sink.emit(event)
            if isinstance(event, Answer):
                self.on_end()
        elif not isinstance(event, ProgressEvent):
            self._waiting.append(event)


def in_order(sink: Sink, questions: Sequence[str]) -> list[OrderedSink]:
    """A sink for each question, whose events reach `sink` in their order; the first begins now."""
    ordered = [OrderedSink(sink) for _ in questions]
    for index, (question, one) in enumerate(zip(questions, ordered, strict=True)):
        one.question(question, index, len(questions))
        if index + 1 < len(ordered):
            one.on_end = ordered[index + 1].begin
    ordered[0].begin()
    return ordered
