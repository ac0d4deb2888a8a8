"""An answer's text for a page: its paragraphs, lists and tables, and in them which claims have
evidence, which quotations were found, which numbers stand nowhere.

The text is cut, never changed: all offsets are those of `Answer.text`. The little Markdown that
models write is laid out; what is no such mark is text.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from engine.api import quotation_spans
from mm1cli.grounding.normalize import normalize
from mm1cli.result import Answer, Citation, CitationKind, CitationStatus, Mark

Span = tuple[int, int]

_HIDDEN = re.compile(r"(\*\*)(?=\S)(.+?)(?<=\S)(\*\*)|(`)([^`\n]+)(`)")
_HEADING = re.compile(r"#{1,6}\s+")
_ITEM = re.compile(r"\s*(?:[-*•]|\d{1,3}[.)])\s+")
_FENCE = re.compile(r"\s*(?:```|~~~)")
_BORDER = re.compile(r"(?<!\\)\|")
_ESCAPED = re.compile(r"\\(?=[\\|<\[\]`])")
_REFERENCE = re.compile(r"(?<!\\)\[(\d{1,4})\]")
_TABLE_RULE = re.compile(r"\s*\|?\s*:?-{2,}:?\s*(?:\|\s*:?-{2,}:?\s*)*\|?\s*$")


@dataclass(frozen=True, slots=True)
class Block:
    """`kind` is paragraph, heading, item, code or table. A table has rows of cells, all else one
    row of one cell; the first row of a table is its head."""

    kind: str
    rows: list[list[Span]]
    lead: str = ""  # an item's bullet or number


@dataclass(slots=True)
class Piece:
    """A run of text of one look. `refs` are the footnotes that stand behind it."""

    text: str
    classes: list[str] = field(default_factory=list)
    refs: list[int] = field(default_factory=list)
    flag: str = ""  # a warning in words, behind the piece


def blocks(text: str) -> list[Block]:
    """The text laid out. Each character that is not layout is in exactly one cell."""
    lines = list(_lines(text))
    found: list[Block] = []
    at = 0
    while at < len(lines):
        start, end = lines[at]
        line = text[start:end]
        stop = at + 1
        if not line.strip():
            at = stop
            continue
        if _FENCE.match(line):
            while stop < len(lines) and not _FENCE.match(text[slice(*lines[stop])]):
                stop += 1
            if stop > at + 1:
                found.append(Block("code", [[(lines[at + 1][0], lines[stop - 1][1])]]))
            stop += 1
        elif "|" in line and stop < len(lines) and _TABLE_RULE.match(text[slice(*lines[stop])]):
            stop += 1
            while stop < len(lines) and "|" in text[slice(*lines[stop])]:
                stop += 1
            rows = [(start, end), *lines[at + 2 : stop]]
            found.append(Block("table", [_cells(text, row) for row in rows]))
        elif head := _HEADING.match(line):
            found.append(Block("heading", [[(start + head.end(), end)]]))
        else:
            item = _ITEM.match(line)
            while stop < len(lines) and _goes_on(text, lines, stop):
                stop += 1
            lead = item.group().strip() if item else ""
            begin = start + (item.end() if item else 0)
            span = (begin, lines[stop - 1][1])
            found.append(Block("item" if item else "paragraph", [[span]], lead))
        at = stop
    return found


def _lines(text: str) -> Iterator[Span]:
    start = 0
    for line in text.split("\n"):
        yield start, start + len(line)
        start += len(line) + 1


def _goes_on(text: str, lines: Sequence[Span], at: int) -> bool:
    line = text[slice(*lines[at])]
    following = text[slice(*lines[at + 1])] if at + 1 < len(lines) else ""
    begins = _HEADING.match(line) or _ITEM.match(line) or _FENCE.match(line)
    is_table = "|" in line and _TABLE_RULE.match(following)
    return bool(line.strip()) and not begins and not is_table


def _cells(text: str, row: Span) -> list[Span]:
    start, end = row
    line = text[start:end]
    left = len(line) - len(line.lstrip(" |"))
    right = len(line.rstrip())
    right -= line[:right].endswith("|")
    left = min(left, right)
    spans = []
    at = start + left
    for cell in _BORDER.split(line[left:right]):
        spans.append((at, at + len(cell)))
        at += len(cell) + 1
    return spans


@dataclass(frozen=True, slots=True)
class _Look:
    """How `text[start:end]` looks: a class, or "hidden" for the marks of the layout."""

    start: int
    end: int
    name: str
    number: int | None = None
    flag: str = ""


class AnswerText:
    """Cuts spans of one answer's text into pieces."""

    def __init__(self, answer: Answer) -> None:
        self.text = answer.text
        # Only the program writes "[1]" and means a footnote, in the tables it fills.
        self._is_filled = isinstance(answer.value, dict) and "rows" in answer.value
        self._looks = [*_formatting(answer.text), *_quotes(answer), *_unverified(answer)]
        if self._is_filled:
            self._looks += _references(answer)
        self._claims = sorted(answer.claims, key=lambda claim: claim.start)
        self._starts = [claim.start for claim in self._claims]
        self._cuts = sorted(
            {at for look in self._looks for at in (look.start, look.end)}
            | {at for claim in self._claims for at in (claim.start, claim.end)}
        )
        self._last: dict[int, Piece] = {}  # of each claim, as far as pieces were made
        self._quoted: dict[int, set[int]] = {}  # footnotes of quotations inside each claim

    def layout(self) -> list[tuple[Block, list[list[list[Piece]]]]]:
        """Each block with its cells as pieces, and behind each claim its footnotes."""
        laid = [
            (block, [[self._pieces(span) for span in row] for row in block.rows])
            for block in blocks(self.text)
        ]
        for index, piece in self._last.items():
            claim = self._claims[index]
            inside = self._quoted.get(index, set())
            if claim.mark is Mark.CONTRADICTED:
                piece.refs += [number for number in claim.against if number not in inside]
                piece.flag = piece.flag or "contradicted"
                continue
            piece.refs += [number for number in claim.citations if number not in inside]
            if claim.mark is Mark.NOT_CARRIED:
                piece.flag = piece.flag or "no evidence"
        return laid

    def _pieces(self, span: Span) -> list[Piece]:
        start, end = span
        borders = [start, *(at for at in self._cuts if start < at < end), end]
        pieces: list[Piece] = []
        for first, last in pairwise(borders):
            looks = [look for look in self._looks if look.start <= first and last <= look.end]
            if first == last:
                continue
            if any(look.name == "hidden" for look in looks):
                if numbers := [look.number for look in looks if look.number is not None]:
                    if not pieces:
                        pieces.append(Piece(""))
                    pieces[-1].text = pieces[-1].text.rstrip()
                    pieces[-1].refs += numbers
                continue
            piece = Piece(self.text[first:last], [look.name for look in looks])
            for look in looks:
                if look.end == last and look.number is not None:
                    piece.refs.append(look.number)
                if look.end == last and look.flag:
                    piece.flag = look.flag
            index = bisect_right(self._starts, first) - 1
            if index >= 0 and last <= self._claims[index].end:
                mark = self._claims[index].mark
                if mark is not Mark.CARRIED:
                    is_against = mark is Mark.CONTRADICTED
                    piece.classes.append("contradicted" if is_against else "unsupported")
                if piece.text.strip():
                    self._last[index] = piece
                self._quoted.setdefault(index, set()).update(piece.refs)
            pieces.append(piece)
        return pieces


def _formatting(text: str) -> Iterator[_Look]:
    for match in _HIDDEN.finditer(text):
        opening, inside, closing = (1, 2, 3) if match.group(1) else (4, 5, 6)
        yield _Look(*match.span(opening), "hidden")
        yield _Look(*match.span(inside), "strong" if opening == 1 else "code")
        yield _Look(*match.span(closing), "hidden")


def _references(answer: Answer) -> Iterator[_Look]:
    numbers = {one.number for one in answer.citations}
    for match in _REFERENCE.finditer(answer.text):
        if (number := int(match.group(1))) in numbers:
            yield _Look(*match.span(), "hidden", number)
    for match in _ESCAPED.finditer(answer.text):
        yield _Look(*match.span(), "hidden")


def _quotes(answer: Answer) -> Iterator[_Look]:
    """What stands in quotation marks and is a citation: where, and how it was found."""
    cited: dict[str, Citation] = {}
    for citation in answer.citations:
        if citation.kind is CitationKind.QUOTE:
            cited.setdefault(normalize(citation.text), citation)
    for start, end in quotation_spans(answer.text) if cited else ():
        if (found := cited.get(normalize(answer.text[start + 1 : end - 1]))) is not None:
            yield _Look(
                start,
                end,
                f"quote-{found.status.replace(' ', '-')}",
                found.number,
                "not in the documents" if found.status is CitationStatus.NOT_FOUND else "",
            )


def _unverified(answer: Answer) -> Iterator[_Look]:
    for words in dict.fromkeys(filter(None, answer.unverified)):
        pattern = re.escape(words)
        if words[0].isdigit():
            pattern = rf"(?<![\d.,]){pattern}(?![.,]?\d)"
        for match in re.finditer(pattern, answer.text):
            yield _Look(*match.span(), "unverified", flag="not in the documents")
