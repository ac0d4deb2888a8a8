"""Documents cut into passages and sentences: slices of blocks, never copies that were changed."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from mm1cli.ingest.corpus import Block, Corpus, Document, Locator
from mm1cli.ingest.readers.rows import REPEATED
from mm1cli.retrieval.headings import (
    HEADER_CHARS,
    Tables,
    header_rows,
    sender_of,
    tables_in,
    title_of,
)

PASSAGE_CHARS = 700
LONGEST_SENTENCE_CHARS = 2000
_NEAR_CHARS = 2 * LONGEST_SENTENCE_CHARS  # looked at beside a passage

Outline = tuple[tuple[int, tuple[str, ...]], ...]  # as in `Block.outline`

_PROSE = frozenset({"markdown", "text", "pdf", "docx"})
# "Dr. Nwosu", "R. Osei" and "no. 4471" end no sentence.
_ABBREVIATIONS = ["Dr", "Mr", "Mrs", "Ms", "Prof", "St", "vs", "approx", "Fig", "Art", "cf"]
NOT_ABBREVIATED = "".join(rf"(?<!\b{one}\.)" for one in _ABBREVIATIONS) + (
    r"(?<!\b[A-Z]\.)(?<!\b[Nn]o\.(?=\s\d))"
)
# A full stop, question or exclamation mark, closing quotes, then white space and a new beginning.
_SENTENCE = rf"(?<=[.!?。！？]){NOT_ABBREVIATED}[\"'”’)\]]*\s+(?=[\"'“‘(\[]?[^\W_a-z])"
_FULL_WIDTH = r"(?<=[。！？])(?=[^\s\"'”’)\]」』）》])|(?<=[。！？][」』）》”’])(?=\S)"
_PARAGRAPH = r"\n\s*\n\s*"
_LIST_OR_TABLE = r"\n(?=\s*(?:[-*+|>#]|\d+[.)])\s?)"
_PROSE_BREAK = re.compile(f"{_PARAGRAPH}|{_LIST_OR_TABLE}|{_SENTENCE}|{_FULL_WIDTH}")
_PARAGRAPH_BREAK = re.compile(f"\\n+|{_SENTENCE}|{_FULL_WIDTH}")
_LINE_BREAK = re.compile(r"\n+")
# Lines of code that need the next one, and lines that need the one before, in most languages.
_GOES_ON = re.compile(r"\A(?:@|#|//|/\*|\*(?!/))|[(\[{,\\=+&|:]\Z")
_CONTINUES = re.compile(r"\s*(?:[)\]}.,:;?&|+=*]|(?:else|elif|except|finally|catch)\b)")


@dataclass(frozen=True, slots=True)
class Passage:
    """`block.text[start:end]` of one document. `outline` are the definitions in source code,
    `header` is the row that names the columns of a sheet, `tables` are those in running text."""

    document: Document
    block: Block
    start: int
    end: int
    outline: Outline = field(default=(), repr=False, compare=False)
    header: str = field(default="", repr=False, compare=False)
    tables: Tables = field(default=(), repr=False, compare=False)

    @property
    def text(self) -> str:
        return self.block.text[self.start : self.end]

    @property
    def locator(self) -> Locator:
        located = self.block.locate(self.start, self.end)
        scope = self._around(self.start)
        return replace(located, headings=(*located.headings, *scope)) if scope else located

    @property
    def title(self) -> str:
        """What the document begins with, the header of a table, or who wrote a message and when."""
        return " ".join(self.header.split())[:HEADER_CHARS] or title_of(self.document)

    @property
    def caption(self) -> str:
        """What must be shown with it to be understood: the header row of a table if it is not in
        it, the class and function of code, who sent a message and when. "" for most texts."""
        if columns := self._columns:
            return "" if self.text.startswith(columns) else columns
        return " › ".join(self._around(self.start)) or sender_of(self.document)

    @property
    def heading(self) -> str:
        """Where it stands, for a reader who has not seen the rest of the document: "leases/7.txt:
        Lease of unit 7: Ending the lease"."""
        above = filter(None, dict.fromkeys((self.title, *self.locator.headings, self._named)))
        return ": ".join(("/".join(PurePath(self.document.path).parts[-2:]), *above))

    @property
    def names(self) -> tuple[str, ...]:
        """What it can be found by besides its text and path: title, headings, and all definitions
        that a part of it stands in."""
        inside = [names for at, names in self.outline if self.start < at < self.end]
        every = dict.fromkeys(name for names in inside for name in names)
        above = (self.title, *self.locator.headings, self._named)
        return tuple(dict.fromkeys(filter(None, (*above, *every))))

    @property
    def _columns(self) -> str:
        """The row that names the columns where it begins; "" in other text."""
        at = bisect_right(self.tables, self.start, key=lambda table: table[0]) - 1
        is_inside = at >= 0 and self.start < self.tables[at][1]
        return self.header or (self.tables[at][2] if is_inside else "")

    @property
    def _named(self) -> str:
        """The columns of a table in running text, as words."""
        return "" if self.header else " ".join(self._columns.replace("|", " ").split())

    def _around(self, offset: int) -> tuple[str, ...]:
        at = bisect_right(self.outline, offset, key=lambda entry: entry[0]) - 1
        return self.outline[at][1] if at >= 0 else ()

    def at(self, start: int, end: int) -> "Passage":
        """Another one of the same block."""
        return replace(self, start=start, end=end)

    @property
    def section(self) -> tuple[int, int]:
        """Where what it stands in begins and ends: headings, definitions, or the block."""
        borders = sorted({at for at, _ in (*self.block.outline, *self.outline)})
        first, last = bisect_right(borders, self.start), bisect_right(borders, self.end - 1)
        return (
            borders[first - 1] if first else 0,
            borders[last] if last < len(borders) else len(self.block.text),
        )

    def sentences(self, start: int, end: int) -> list[tuple[int, int]]:
        """Whole sentences in `block.text[start:end]`, which begins and ends at borders of such;
        of a long text only those near the passage."""
        first, last = max(start, self.start - _NEAR_CHARS), min(end, self.end + _NEAR_CHARS)
        breaks = _breaks_of(self.document, self.block)
        near = _spans(self.block.text[first:last], breaks)
        found = [(first + begin, first + stop) for begin, stop in near]
        # What the window cut is no sentence.
        return found[first > start : len(found) - (last < end)]

    def touches(self, other: "Passage") -> bool:
        """Whether nothing but white space stands between them."""
        if self.block is not other.block or self.document is not other.document:
            return False
        first, second = sorted(((self.start, self.end), (other.start, other.end)))
        return not self.block.text[first[1] : second[0]].strip()

    def spans(self, num_sentences: int) -> list["Passage"]:
        """Every run of `num_sentences` sentences (lines, in code) in it; itself if it has fewer."""
        inside = [
            (start, end)
            for start, end in _sentences(self.document, self.block)
            if self.start <= start and end <= self.end
        ]
        firsts = inside[: max(len(inside) - num_sentences + 1, 1)]
        lasts = inside[-len(firsts) :]
        return [
            replace(self, start=start, end=end)
            for (start, _), (_, end) in zip(firsts, lasts, strict=True)
        ]

    def overlaps(self, other: "Passage") -> bool:
        same = self.block is other.block and self.document is other.document
        return same and self.start < other.end and other.start < self.end


def passages(corpus: Corpus, outlines: Sequence[Outline] = ()) -> list[Passage]:
    """Every non-blank character of the corpus is in exactly one passage; none cuts a sentence.

    A passage is at most `PASSAGE_CHARS` long, unless one sentence is, and a sentence at most
    `LONGEST_SENTENCE_CHARS`. `outlines` are the definitions in each document, where they are known:
    a passage of code rather begins with one than ends in one. Lines of code and tables keep what
    they are indented by, and a passage of code ends behind a statement if one ends in its second
    half.
    """
    known = outlines or [()] * len(corpus.documents)
    return [
        Passage(document, block, start, end, outline, header, tables)
        for document, outline in zip(corpus.documents, known, strict=True)
        for block, header in zip(document.blocks, header_rows(document), strict=True)
        if block.mark != REPEATED  # its rows have it as their header
        for tables in (tables_in(document, block),)
        for start, end in _grouped(
            list(_sentences(document, block)),
            block.text,
            outline,
            is_lines=_breaks_of(document, block) is _LINE_BREAK,
        )
    ]


def _sentences(document: Document, block: Block) -> Iterator[tuple[int, int]]:
    yield from _spans(block.text, _breaks_of(document, block))


def _breaks_of(document: Document, block: Block) -> re.Pattern[str]:
    if block.unit == "paragraph":
        return _PARAGRAPH_BREAK
    is_prose = document.kind in _PROSE and block.unit == "line"
    return _PROSE_BREAK if is_prose else _LINE_BREAK


def sentences(text: str) -> list[tuple[int, int]]:
    """Where each sentence of prose begins and ends; list items and headings are sentences, too."""
    return list(_spans(text, _PROSE_BREAK))


def _spans(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """What lies between matches of `pattern`, blanks stripped off, but not before a line."""
    before = "\n" if pattern is _LINE_BREAK else None
    start = 0
    for border in [match.end() for match in pattern.finditer(text)] + [len(text)]:
        stretch = text[start:border].rstrip()
        if stretch:
            first = start + len(stretch) - len(stretch.lstrip(before))
            yield from _pieces(first, start + len(stretch))
        start = border


def _pieces(start: int, end: int) -> Iterator[tuple[int, int]]:
    """A stretch without an end, such as a minified line, would not fit any context whole."""
    while end - start > LONGEST_SENTENCE_CHARS:
        yield start, start + LONGEST_SENTENCE_CHARS
        start += LONGEST_SENTENCE_CHARS
    yield start, end


def _grouped(
    sentences: list[tuple[int, int]], text: str, outline: Outline, *, is_lines: bool
) -> Iterator[tuple[int, int]]:
    if not sentences:
        return
    borders = [at for at, _ in outline]
    begin = at = 0
    while at + 1 < len(sentences):
        start, end = sentences[begin][0], sentences[at][1]
        at += 1
        first, last = sentences[at]
        is_full = last - start > PASSAGE_CHARS
        at_paragraph = not outline and "\n\n" in text[end:first]
        # Before a definition, and behind it.
        at_definition = bisect_right(borders, end) < bisect_right(borders, first)
        is_half = end - start > PASSAGE_CHARS // 2
        if is_full or (is_half and (at_paragraph or at_definition)):
            cut = _behind_statement(sentences, text, begin, at) if is_lines and is_full else at
            yield start, sentences[cut - 1][1]
            begin = at = cut
    yield sentences[begin][0], sentences[-1][1]


def _behind_statement(lines: list[tuple[int, int]], text: str, begin: int, end: int) -> int:
    """The last line before `end` that may begin a statement, in the second half of the passage
    from `begin` on; `end` if there is none."""
    for cut in range(end, begin, -1):
        (first, last), (following, _) = lines[cut - 1], lines[cut]
        if last - lines[begin][0] <= PASSAGE_CHARS // 2:
            break
        line = text[first:last].strip()
        if not _GOES_ON.search(line) and not _CONTINUES.match(text, following):
            return cut
    return end


@dataclass(frozen=True, slots=True)
class Ranked:
    """A passage and its score: mean log-likelihood, nats per token, higher is better."""

    passage: Passage
    score: float


def with_heading(passage: Passage) -> str:
    """The text of a passage as the model reads it by itself."""
    return f"{passage.heading}\n{passage.text}"
