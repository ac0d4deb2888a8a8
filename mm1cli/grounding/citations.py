"""What an answer quotes and counts, and a citation of the place that says it."""

import re
import unicodedata
from dataclasses import dataclass

from engine import api
from mm1cli.grounding.normalize import normalize
from mm1cli.ingest.corpus import Block, Document, Locator
from mm1cli.result import Citation, CitationKind, CitationStatus
from mm1cli.retrieval.passages import Passage

_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")
_LIST_MARK = re.compile(r"^\s*\d{1,3}[.)](?=\s)", re.MULTILINE)
_FEWEST_QUOTED_WORDS = 3  # fewer are names and titles, not quotations


@dataclass(frozen=True, slots=True)
class QuoteMatch:
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


def cite(
    number: int,
    at: Passage | QuoteMatch,
    status: CitationStatus,
    kind: CitationKind,
    *,
    score: float = 0.0,
    gain: float | None = None,
    attention: float | None = None,
) -> Citation:
    """Citation `number`: what stands at `at`, and what was measured of it."""
    blocks = at.document.blocks
    return Citation(
        number=number,
        path=at.document.path,
        locator=at.locator,
        text=at.text,
        status=status,
        score=score,
        kind=kind,
        block=next(n for n, block in enumerate(blocks) if block is at.block),
        start=at.start,
        end=at.end,
        gain=gain,
        attention=attention,
        caption=at.caption if isinstance(at, Passage) else "",
    )


def contains_number(text: str, number: str) -> bool:
    """Whether `number` stands in `text` as a number of its own."""
    # A point or comma before it belongs to a number, unless a letter stands before that: p.12.
    begins = r"(?:(?<![\d.,])|(?<=[^\W\d_][.,]))"
    return re.search(rf"{begins}{re.escape(number)}(?![.,]?\d)", text) is not None


def contains(text: str, quote: str) -> bool:
    """Whether `quote` stands in `text`, both normalised."""
    return normalize(quote) in normalize(text)


def quotations(text: str) -> list[str]:
    """What `text` puts in quotation marks, single words and titles left out."""
    quotes = api.quotations(text)
    return [quote for quote in quotes if len(quote.split()) >= _FEWEST_QUOTED_WORDS]


def unfinished(text: str) -> str:
    """The quotation that the end of `text` cuts, without its last word, of which more may come."""
    quote = api.unfinished_quotation(text).rpartition(" ")[0].rstrip()
    return quote if len(quote.split()) >= _FEWEST_QUOTED_WORDS else ""


def numbers(text: str) -> list[str]:
    """The numbers in `text`, once each; those that only count a list's items are left out."""
    unmarked = _LIST_MARK.sub("", unicodedata.normalize("NFKC", text))
    return list(dict.fromkeys(_NUMBER.findall(unmarked)))
