"""The numbers and dates of what was in the context of an answer: not of the whole corpus, in which
four of five small numbers stand somewhere."""

from collections.abc import Iterator, Sequence
from functools import cached_property

from mm1cli.grounding.facts import Facts
from mm1cli.ingest.corpus import Corpus, Document
from mm1cli.result import PassageRead
from mm1cli.retrieval.passages import Passage, with_heading


class ReadFacts:
    """Of answers about one corpus. Nothing is parsed before it is asked for, the corpus once."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    @cached_property
    def whole(self) -> Facts:
        """Of every document."""
        return Facts.of(_texts(self._corpus.documents))

    def of(self, parts: Sequence[PassageRead], passages: Sequence[Passage]) -> Facts:
        """Of `parts`: documents, and such of `passages` as are among them."""
        documents = {part.path for part in parts if part.locator is None}
        if len(documents) == len({document.path for document in self._corpus.documents}):
            return self.whole
        read = {(part.path, part.locator) for part in parts}
        texts = [
            with_heading(passage)
            for passage in passages
            if (passage.document.path, passage.locator) in read
        ]
        texts += _texts([one for one in self._corpus.documents if one.path in documents])
        return Facts.of(texts)


def _texts(documents: Sequence[Document]) -> Iterator[str]:
    for document in documents:
        yield document.path
        yield from (block.text for block in document.blocks)
