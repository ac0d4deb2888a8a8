"""Finds quoted text in the source: exactly, or after one stated normalisation; never fuzzily.

The normalisation: NFKC, then every run of white space as one space. Case, punctuation and words
count, so a dropped "not" is not found.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from mm1cli.ingest.corpus import Block, Corpus, Document, Locator
from mm1cli.result import CitationStatus

_QUOTED = re.compile(r"“([^”]+)”|\"([^\"]+)\"|«([^»]+)»")
_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")
_LIST_MARK = re.compile(r"^\s*\d{1,3}[.)](?=\s)", re.MULTILINE)
_FEWEST_QUOTED_WORDS = 3  # fewer are names and titles, not quotations


@dataclass(frozen=True, slots=True)
class Found:
    """Where a quote stands, and how it was matched."""

    document: Document
    block: Block
    start: int
    end: int
    status: CitationStatus

    @property
    def text(self) -> str:
        """The source's own text, whatever the quote looked like."""
        return self.block.text[self.start : self.end]

    @property
    def locator(self) -> Locator:
        return self.block.locate(self.start, self.end)


class Source:
    """The text of a corpus, searchable for quotes and numbers."""

    def __init__(self, corpus: Corpus) -> None:
        self._blocks = [
            _Normalised(document, block)
            for document in corpus.documents
            for block in document.blocks
        ]

    def find(self, quote: str) -> Found | None:
        """The first place where `quote` stands, exact matches before normalised ones."""
        for normalised in self._blocks:
            if (at := normalised.block.text.find(quote)) >= 0 and quote:
                document, block = normalised.document, normalised.block
                return Found(document, block, at, at + len(quote), CitationStatus.EXACT)
        target = _normalise(quote)
        for normalised in self._blocks:
            if target and (found := normalised.find(target)):
                return found
        return None

    def has_number(self, number: str) -> bool:
        """Whether `number` stands somewhere as a number of its own: 8.2 is not in 48.2."""
        return any(holds_number(normalised.text, number) for normalised in self._blocks)


def holds_number(text: str, number: str) -> bool:
    """Whether `number` stands in `text` as a number of its own."""
    # A point or comma before it belongs to a number, unless a letter stands before that: p.12.
    begins = r"(?:(?<![\d.,])|(?<=[^\W\d_][.,]))"
    return re.search(rf"{begins}{re.escape(number)}(?![.,]?\d)", text) is not None


def holds(text: str, quote: str) -> bool:
    """Whether `quote` stands in `text`, both normalised."""
    return _normalise(quote) in _normalise(text)


def quotations(text: str) -> list[str]:
    """What `text` puts in quotation marks, single words and titles left out."""
    found = (next(filter(None, match.groups())) for match in _QUOTED.finditer(text))
    return [quote for quote in found if len(quote.split()) >= _FEWEST_QUOTED_WORDS]


def numbers(text: str) -> list[str]:
    """The numbers in `text`, once each; those that only count a list's items are left out."""
    unmarked = _LIST_MARK.sub("", unicodedata.normalize("NFKC", text))
    return list(dict.fromkeys(_NUMBER.findall(unmarked)))


def _normalise(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split())


def _clusters(text: str) -> Iterator[tuple[int, int]]:
    """A character with the marks that combine with it, one after the other: NFKC joins them."""
    start = 0
    for end in range(1, len(text) + 1):
        following = unicodedata.normalize("NFKD", text[end : end + 1])
        if not (following and unicodedata.combining(following[0])):
            yield start, end
            start = end


@dataclass(frozen=True)
class _Normalised:
    document: Document
    block: Block

    @cached_property
    def text(self) -> str:
        return _normalise(self.block.text)

    @cached_property
    def _mapped(self) -> tuple[str, list[tuple[int, int]]]:
        """The normalised text, and for each of its characters where it came from."""
        characters: list[str] = []
        origins: list[tuple[int, int]] = []
        for start, end in _clusters(self.block.text):
            for new in unicodedata.normalize("NFKC", self.block.text[start:end]):
                if new.isspace():
                    if not characters or characters[-1] == " ":
                        continue
                    new = " "
                characters.append(new)
                origins.append((start, end))
        return "".join(characters), origins

    def find(self, target: str) -> Found | None:
        if target not in self.text:  # the map is built for a hit only: it is slow
            return None
        text, origins = self._mapped
        at = text.find(target)
        if at < 0:
            return None
        (start, _), (_, end) = origins[at], origins[at + len(target) - 1]
        return Found(self.document, self.block, start, end, CitationStatus.NORMALISED)
