"""Where a citation stands in its document, and the text around it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

from mm1cli.ingest.corpus import Block, Corpus, Document, Locator
from mm1cli.result import Citation

AROUND_CHARS = 600  # shown on either side, at most
QUOTE_CHARS = 4_000  # of the passage itself
_FULL_LINE_CHARS = 60  # a line this long may have been broken for want of room
_NARROW_SHARE = 0.75
_GOES_ON = re.compile(r"[a-z\d(,;]")
_IS_PROSE = re.compile(r"(?!\d+[.)]\s)[^\s\-*+•|#>]")
_WORD_CHARS = 60  # a cut looks this far for white space
_MOST_TRIED = 100  # a word may stand on every line


@dataclass(frozen=True, slots=True)
class Spot:
    """`document.blocks[block].text[start:end]`, where document number `number` is `document`."""

    number: int
    document: Document
    block: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Surroundings:
    """A passage with what stands before and after it; an ellipsis where the text goes on."""

    before: str
    quote: str
    after: str


class Sources:
    """The documents of a context, in its order, by path."""

    def __init__(self, corpus: Corpus, tokens: Sequence[int]) -> None:
        self.documents, self.tokens = corpus.documents, tuple(tokens)
        self._by_path: dict[str, list[int]] = {}
        for number, document in enumerate(self.documents):
            self._by_path.setdefault(document.path, []).append(number)

    @cached_property
    def first_tokens(self) -> list[int]:
        """The token each document begins at, and the number of all of them."""
        return [0, *accumulate(self.tokens)]

    def numbers(self, path: str) -> list[int]:
        """The documents of that name; an archive may hold two."""
        return self._by_path.get(path, [])

    def find(self, citation: Citation) -> Spot | None:
        """Where the citation's text stands; None if it is not where the citation says."""
        for number in self.numbers(citation.path) if citation.text else ():
            document = self.documents[number]
            if citation.block is not None and citation.start is not None:
                end = citation.start + len(citation.text)
                if _holds(document.blocks, citation.block, citation.start, citation.text):
                    return Spot(number, document, citation.block, citation.start, end)
                continue
            for at, block in enumerate(document.blocks):
                start = _find(block, citation.locator, citation.text)
                if start is not None:
                    return Spot(number, document, at, start, start + len(citation.text))
        return None

    def token_of(self, number: int, block: int, offset: int) -> float:
        """The token of the context at `offset` of a block: exact between documents, inside one
        in proportion to its characters."""
        blocks = self.documents[number].blocks
        num_chars = sum(len(one.text) + 1 for one in blocks)
        before = sum(len(one.text) + 1 for one in blocks[:block]) + offset
        return self.first_tokens[number] + self.tokens[number] * before / max(num_chars, 1)

    def lines_of(self, number: int, locator: Locator) -> tuple[float, float] | None:
        """The tokens from and to of the lines (paragraphs, rows) a locator names; None for a
        locator of another document."""
        found = None
        for at, block in enumerate(self.documents[number].blocks):
            if (block.place, block.mark) != (locator.place, locator.mark):
                continue
            lines = [0, *accumulate(len(line) + 1 for line in block.text.split("\n"))]
            first, last = locator.first - block.first, locator.last - block.first
            if not 0 <= first < len(lines) - 1:
                continue
            end = min(lines[min(last + 1, len(lines) - 1)], len(block.text))
            found = self.token_of(number, at, lines[first]), self.token_of(number, at, end)
            if locator.headings[: len(block.headings)] == block.headings:
                break
        return found


def around(spot: Spot) -> Surroundings:
    """The text of the same page, slide, sheet or part beside the passage, as room allows."""
    blocks = spot.document.blocks
    here = blocks[spot.block]
    before, first = here.text[: spot.start], spot.block
    while first and _same_place(blocks[first - 1], here) and len(before) < AROUND_CHARS:
        first -= 1
        before = f"{blocks[first].text}\n{before}"
    after, last = here.text[spot.end :], spot.block
    while last + 1 < len(blocks) and _same_place(blocks[last + 1], here):
        if len(after) >= AROUND_CHARS:
            break
        last += 1
        after = f"{after}\n{blocks[last].text}"
    quote = here.text[spot.start : spot.end]
    return Surroundings(_end_of(before), head_of(quote, QUOTE_CHARS), head_of(after, AROUND_CHARS))


def head_of(text: str, num_chars: int) -> str:
    """`text`, or its beginning and an ellipsis, cut at white space where there is some."""
    if len(text) <= num_chars:
        return text
    words = text[num_chars - _WORD_CHARS : num_chars]
    end = max(words.rfind(" "), words.rfind("\n"))
    return text[: num_chars - _WORD_CHARS + end if end >= 0 else num_chars] + " …"


def flowing(text: str, *, is_narrow: bool = False) -> str:
    """`text` with a space for each line break that only a narrow page called for, so that it fits
    any screen. Nothing but white space is changed. `is_narrow`: lines of a page's column are full
    that are about as long as the longest of them."""
    first, *rest = text.split("\n")
    longest = max(map(len, (first, *rest)))
    full = min(_FULL_LINE_CHARS, int(_NARROW_SHARE * longest)) if is_narrow else _FULL_LINE_CHARS
    flowed = first
    for before, line in pairwise([first, *rest]):
        is_broken = _GOES_ON.match(line) or (
            len(before) >= full and not before.rstrip().endswith((".", "!", "?", ":"))
        )
        joins = before.strip() and _IS_PROSE.match(line) and is_broken
        flowed = f"{flowed.rstrip()} {line}" if joins else f"{flowed}\n{line}"
    return flowed


def _end_of(text: str) -> str:
    return head_of(text[::-1], AROUND_CHARS)[::-1]


def _same_place(block: Block, other: Block) -> bool:
    return (block.place, block.mark) == (other.place, other.mark)


def _holds(blocks: Sequence[Block], number: int, start: int, text: str) -> bool:
    return 0 <= number < len(blocks) and start >= 0 and blocks[number].text.startswith(text, start)


def _find(block: Block, locator: Locator, text: str) -> int | None:
    if (block.place, block.mark) != (locator.place, locator.mark):
        return None
    first = at = block.text.find(text)
    for _ in range(_MOST_TRIED):
        if at < 0:
            return None
        if block.locate(at, at + len(text)).first == locator.first:
            return at
        at = block.text.find(text, at + 1)
    return first
