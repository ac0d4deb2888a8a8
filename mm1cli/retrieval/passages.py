"""Documents cut into passages and sentences: slices of blocks, never copies that were changed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from mm1cli.ingest.corpus import Block, Corpus, Document, Locator

PASSAGE_CHARS = 700
TITLE_CHARS = 120
LONGEST_SENTENCE_CHARS = 2000

_PROSE = frozenset({"markdown", "text", "pdf", "docx"})
# A full stop, question or exclamation mark, closing quotes, then white space and a new beginning.
_SENTENCE = r"(?<=[.!?。！？])[\"'”’)\]]*\s+(?=[\"'“‘(\[]?[^\W_a-z])"
_PARAGRAPH = r"\n\s*\n\s*"
_LIST_OR_TABLE = r"\n(?=\s*(?:[-*+|>#]|\d+[.)])\s?)"
_PROSE_BREAK = re.compile(f"{_PARAGRAPH}|{_LIST_OR_TABLE}|{_SENTENCE}")
_PARAGRAPH_BREAK = re.compile(f"\\n+|{_SENTENCE}")
_LINE_BREAK = re.compile(r"\n+")


@dataclass(frozen=True, slots=True)
class Passage:
    """`block.text[start:end]` of one document."""

    document: Document
    block: Block
    start: int
    end: int

    @property
    def text(self) -> str:
        return self.block.text[self.start : self.end]

    @property
    def locator(self) -> Locator:
        return self.block.locate(self.start, self.end)

    @property
    def title(self) -> str:
        """What the document begins with: its title, or the header row of its table."""
        return self.document.blocks[0].text.lstrip().split("\n", 1)[0][:TITLE_CHARS].strip()

    @property
    def heading(self) -> str:
        """Where it stands, for a reader who has not seen the rest of the document: "leases/7.txt:
        Lease of unit 7: Ending the lease"."""
        above = dict.fromkeys((self.title, *self.locator.headings))
        return ": ".join(("/".join(PurePath(self.document.path).parts[-2:]), *above))

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
            Passage(self.document, self.block, start, end)
            for (start, _), (_, end) in zip(firsts, lasts, strict=True)
        ]

    def overlaps(self, other: "Passage") -> bool:
        same = self.block is other.block and self.document is other.document
        return same and self.start < other.end and other.start < self.end


def passages(corpus: Corpus) -> list[Passage]:
    """Every non-blank character of the corpus is in exactly one passage; none cuts a sentence.

    A passage is at most `PASSAGE_CHARS` long, unless one sentence is, and a sentence at most
    `LONGEST_SENTENCE_CHARS`.
    """
    return [
        Passage(document, block, start, end)
        for document in corpus.documents
        for block in document.blocks
        for start, end in _grouped(list(_sentences(document, block)), block.text)
    ]


def _sentences(document: Document, block: Block) -> Iterator[tuple[int, int]]:
    text = block.text
    if block.unit == "paragraph":
        pattern = _PARAGRAPH_BREAK
    else:
        is_prose = document.kind in _PROSE and block.unit == "line"
        pattern = _PROSE_BREAK if is_prose else _LINE_BREAK
    yield from _spans(text, pattern)


def sentences(text: str) -> list[tuple[int, int]]:
    """Where each sentence of prose begins and ends; list items and headings are sentences, too."""
    return list(_spans(text, _PROSE_BREAK))


def _spans(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """What lies between matches of `pattern`, blanks stripped off."""
    start = 0
    for border in [match.end() for match in pattern.finditer(text)] + [len(text)]:
        stripped = text[start:border].strip()
        if stripped:
            first = start + text[start:border].index(stripped[0])
            yield from _pieces(first, first + len(stripped))
        start = border


def _pieces(start: int, end: int) -> Iterator[tuple[int, int]]:
    """A stretch without an end, such as a minified line, would not fit any context whole."""
    while end - start > LONGEST_SENTENCE_CHARS:
        yield start, start + LONGEST_SENTENCE_CHARS
        start += LONGEST_SENTENCE_CHARS
    yield start, end


def _grouped(sentences: list[tuple[int, int]], text: str) -> Iterator[tuple[int, int]]:
    if not sentences:
        return
    start, end = sentences[0]
    for first, last in sentences[1:]:
        at_paragraph = "\n\n" in text[end:first]
        is_full = last - start > PASSAGE_CHARS
        if is_full or (at_paragraph and end - start > PASSAGE_CHARS // 2):
            yield start, end
            start = first
        end = last
    yield start, end


@dataclass(frozen=True, slots=True)
class Ranked:
    """A passage and its score: mean log-likelihood, nats per token, higher is better."""

    passage: Passage
    score: float


def with_heading(passage: Passage) -> str:
    """The text of a passage as the model reads it by itself."""
    return f"{passage.heading}\n{passage.text}"
