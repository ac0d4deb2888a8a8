"""The numbers and dates of what was in the context of an answer: not of the whole corpus, in which
four of five small numbers stand somewhere."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from functools import cached_property

from mm1cli.grounding.facts import Facts, facts, unknown_facts
from mm1cli.ingest.corpus import Corpus
from mm1cli.retrieval.passages import Passage, with_heading
from mm1cli.tools.toolbox import ToolUse


class ReadFacts:
    """Of answers about one corpus. Nothing is parsed before it is asked for, the corpus once."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    @cached_property
    def whole(self) -> Facts:
        """Of every document."""
        return Facts.of(self._texts())

    def of(self, read: Sequence[Passage] | None) -> Facts:
        """Of the passages that were read; None: every document was."""
        return self.whole if read is None else Facts.of(map(with_heading, read))

    def _texts(self) -> Iterator[str]:
        for document in self._corpus.documents:
            yield document.path
            yield from (block.text for block in document.blocks)


def told_facts(uses: Sequence[ToolUse], asked: str, read: Facts) -> Facts:
    """Of what tools told. What was computed from a figure that neither stands in what was read or
    asked, nor was told before, counts for nothing: computing makes no invented number true."""
    known, told = Facts.of([asked]), Facts()
    for use in uses:
        if not any(_is_unknown(one, known, read, told) for one in use.operands):
            for text in (use.result, *_rounded(use)):
                for fact in facts(text):
                    told.add(fact)
    return told


def _rounded(use: ToolUse) -> Iterator[str]:
    """What was computed, to fewer digits, and as a percentage: it is told so."""
    with suppress(InvalidOperation):  # a date, or no number
        value = Decimal(use.result.rpartition(" ")[2])
        for number in (value, 100 * value) if use.operands else ():
            yield from (format(round(number, digits), "f") for digits in range(5))


def _is_unknown(operand: str, *known: Facts) -> bool:
    """A share may be written as one (0.12) where the text has per cent."""
    spelled = [operand]
    with suppress(InvalidOperation):  # a date
        spelled.append(format((Decimal(operand) * 100).normalize(), "f"))
    return all(unknown_facts(text, *(lambda one=one: one for one in known)) for text in spelled)
