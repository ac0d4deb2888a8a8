"""The corpus as text to quote from: what a quotation may say, and where a quote stands.

It is the normalised text of every block (see `normalize`), so that a sentence which a PDF breaks
over two lines can be quoted on one.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate

from engine.api import SuffixArray, suffix_array
from mm1cli.grounding.citations import QuoteMatch, contains_number
from mm1cli.grounding.normalize import NormalizedText
from mm1cli.ingest.corpus import Corpus, Document
from mm1cli.result import CitationStatus

NAME = "quotes.bin"  # beside a saved context
_MOST_COMPARED = 64  # places looked at for one that is equal letter for letter


class QuoteIndex:
    """What can be quoted from `corpus`. Nothing is built before it is asked for.

    `saved` is what `dump` gave for the same corpus; what does not fit is built anew. `normalized`
    says what a quote may differ in; whole words need one that leaves no line breaks.
    """

    def __init__(
        self,
        corpus: Corpus,
        saved: bytes | None = None,
        normalized: type[NormalizedText] = NormalizedText,
    ) -> None:
        self._saved, self._normalized = saved, normalized
        self._blocks = [
            (document, block, normalized(block.text))
            for document in corpus.documents
            for block in document.blocks
        ]

    @cached_property
    def suffixes(self) -> SuffixArray:
        return suffix_array([text.text for _, _, text in self._blocks], self._saved)

    def joined(self, documents: Sequence[Document]) -> "QuoteIndex":
        """This and what can be quoted from `documents`, which stand behind the rest."""
        twin = QuoteIndex(Corpus(tuple(documents)), normalized=self._normalized)
        twin._blocks = [*self._blocks, *twin._blocks]
        return twin

    def dump(self) -> bytes:
        return self.suffixes.dump()

    def find(self, quote: str) -> QuoteMatch | None:
        """Where `quote` stands without cutting a word; places with its very letters come first.

        O(log n) for each byte of it, and as much for each place that is looked at.
        """
        first: QuoteMatch | None = None
        for match in self._matches(quote, self._whole_words):
            if match.status is CitationStatus.EXACT:
                return match
            first = first or match
        return first

    def find_anywhere(self, quote: str) -> QuoteMatch | None:
        """The first place of `quote`, inside words too: its very letters before others. O(n)."""
        for document, block, _ in self._blocks:
            if quote and (at := block.text.find(quote)) >= 0:
                return QuoteMatch(document, block, at, at + len(quote), CitationStatus.EXACT)
        return next(self.find_all(quote), None)

    def find_all(self, quote: str) -> Iterator[QuoteMatch]:
        """Every place of `quote`, in the order of the corpus, inside words too. O(n)."""
        return self._matches(quote, self._anywhere)

    def has_number(self, number: str) -> bool:
        """Whether `number` stands somewhere as a number of its own: 8.2 is not in 48.2."""
        return any(contains_number(text.text, number) for _, _, text in self._blocks)

    def _matches(
        self, quote: str, places: Callable[[str], Iterator[tuple[int, int]]]
    ) -> Iterator[QuoteMatch]:
        wanted = self._normalized(quote).text
        for number, start in places(wanted) if wanted else ():
            document, block, text = self._blocks[number]
            end = start + len(wanted)
            # A saved array is not believed: the text at the place is compared.
            if text.text[start:end] != wanted or (span := text.span(start, end)) is None:
                continue
            is_exact = block.text[slice(*span)] == quote
            status = CitationStatus.EXACT if is_exact else CitationStatus.NORMALISED
            yield QuoteMatch(document, block, *span, status)

    def _anywhere(self, wanted: str) -> Iterator[tuple[int, int]]:
        """(block, offset in its normalised text) of each place."""
        for number, (_, _, text) in enumerate(self._blocks):
            at = text.text.find(wanted)
            while at >= 0:
                yield number, at
                at = text.text.find(wanted, at + 1)

    def _whole_words(self, wanted: str) -> Iterator[tuple[int, int]]:
        """As `_anywhere`, of at most `_MOST_COMPARED` places where no word is cut."""
        suffixes, content = self.suffixes, wanted.encode("utf-8", "surrogatepass")
        for place in suffixes.find_all(content, _MOST_COMPARED):
            number = bisect_right(self._starts, place) - 1
            before = suffixes.text[self._starts[number] : place]
            yield number, len(before.decode("utf-8", "surrogatepass"))

    @cached_property
    def _starts(self) -> list[int]:
        """Where each block begins in the text of the suffixes: behind one border each."""
        texts = (text.text.encode("utf-8", "surrogatepass") for _, _, text in self._blocks)
        return list(accumulate((len(text) + 1 for text in texts), initial=1))
