"""The numbers and dates of what was in the context of an answer: not of the whole corpus, in which
four of five small numbers stand somewhere."""

from collections.abc import Iterator, Sequence
from functools import cached_property

from mm1cli.grounding.facts import Facts
from mm1cli.ingest.corpus import Corpus
from mm1cli.retrieval.passages import Passage, with_heading


class ReadFacts:
    """Of answers about one corpus. Nothing is parsed before it is asked for, the corpus once."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    @cached_property
    def whole(self) -> Facts:
        """Of every document."""
        return Facts.of(self._texts())

    def of(self, told: Sequence[str], read: Sequence[Passage] | None) -> Facts:
        """Of the passages that were read (None: every document was) and of what tools `told`."""
        if read is None:
            return Facts.of([*self._texts(), *told]) if told else self.whole
        return Facts.of([*map(with_heading, read), *told])

    def _texts(self) -> Iterator[str]:
        for document in self._corpus.documents:
            yield document.path
            yield from (block.text for block in document.blocks)
