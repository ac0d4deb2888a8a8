"""The corpus as text to quote from: what a quotation may say, and where it stands.

It is the folded text of every block (see `fold`), so that a sentence which a PDF breaks over two
lines can be written on one.
"""

from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from itertools import accumulate

from engine.api import SuffixArray, suffix_array
from mm1cli.grounding.citations import QuoteMatch
from mm1cli.grounding.normalize import NormalizedText, normalize
from mm1cli.ingest.corpus import Corpus
from mm1cli.result import CitationStatus

NAME = "quotes.bin"  # beside a saved context
_MOST_COMPARED = 64  # places looked at for one that is equal letter for letter


class QuoteIndex:
    """What can be quoted from `corpus`. Nothing is built before it is asked for.

    `saved` is what `dump` gave for the same corpus; what does not fit is built anew.
    """

    def __init__(self, corpus: Corpus, saved: bytes | None = None) -> None:
        self._saved = saved
        self._blocks = [
            (document, block, NormalizedText(block.text))
            for document in corpus.documents
            for block in document.blocks
        ]

    @cached_property
    def suffixes(self) -> SuffixArray:
        return suffix_array([folded.text for _, _, folded in self._blocks], self._saved)

    def dump(self) -> bytes:
        return self.suffixes.dump()

    def find(self, quote: str) -> QuoteMatch | None:
        """Where `quote` stands without cutting a word; places with its very letters come first.

        O(log n) for each byte of it, and as much for each place that is looked at.
        """
        wanted = normalize(quote)
        if not wanted:
            return None
        first: QuoteMatch | None = None
        for found in self._places(quote, wanted):
            if found.status is CitationStatus.EXACT:
                return found
            first = first or found
        return first

    def _places(self, quote: str, wanted: str) -> Iterator[QuoteMatch]:
        suffixes, content = self.suffixes, wanted.encode("utf-8", "surrogatepass")
        for place in suffixes.find_all(content, _MOST_COMPARED):
            number = bisect_right(self._starts, place) - 1
            document, block, folded = self._blocks[number]
            before = suffixes.text[self._starts[number] : place]
            start = len(before.decode("utf-8", "surrogatepass"))
            # The place is not believed: the text there is read once more.
            if folded.text[start : start + len(wanted)] != wanted:
                continue
            if (span := folded.span(start, start + len(wanted))) is None:
                continue
            is_exact = block.text[slice(*span)] == quote
            status = CitationStatus.EXACT if is_exact else CitationStatus.NORMALISED
            yield QuoteMatch(document, block, *span, status)

    @cached_property
    def _starts(self) -> list[int]:
        """Where each block begins in the text of the suffixes: behind one border each."""
        texts = (folded.text.encode("utf-8", "surrogatepass") for _, _, folded in self._blocks)
        return list(accumulate((len(text) + 1 for text in texts), initial=1))
