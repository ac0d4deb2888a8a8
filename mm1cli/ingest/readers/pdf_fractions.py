r"""Fractions on a PDF page: what stands above and below a short line, beside text at its level, is
written in that text's line: r = \frac{a + b}{2 c} + d.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mm1cli.ingest.readers.pdf_ground import Box
from mm1cli.ingest.readers.pdf_letters import Piece
from mm1cli.ingest.readers.pdf_rules import Rule

_LONGEST_POINTS = 250.0
_MOST_RULES = 200  # of a page; more are drawings and tables
_OVERHANG = 0.3  # in heights of the font, as all that follow
_FURTHEST = 0.6  # from the line to the text above and below it
_OFF_LEVEL = 0.25  # from the line to the middle of the text beside it
_WIDEST_GAP = 2.5  # to the text beside it
_WIDEST_INSIDE = 1.2
_WITHIN_POINTS = 14.0
_MOST_TEXTS = 5_000


@dataclass(frozen=True, slots=True)
class _Fraction:
    rule: Rule
    upper: tuple[Piece, ...]
    lower: tuple[Piece, ...]

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return self.upper + self.lower

    @property
    def height(self) -> float:
        return max(piece.height for piece in self.pieces)

    @property
    def text(self) -> str:
        return f"\\frac{{{_joined(self.upper)}}}{{{_joined(self.lower)}}}"


def may_have_fractions(boxes: Sequence[Box], rules: Sequence[Rule]) -> bool:
    """By the boxes of the page's text objects alone: some stand close above and below a line."""
    bars = list(_bars(rules))
    if not bars or len(boxes) > _MOST_TEXTS:
        return False
    for bar in bars:
        near = [one for one in boxes if bar.low - 3 <= one[0] and one[2] <= bar.high + 3]
        above = any(0 < (one[1] + one[3]) / 2 - bar.at < _WITHIN_POINTS for one in near)
        below = any(0 < bar.at - (one[1] + one[3]) / 2 < _WITHIN_POINTS for one in near)
        if above and below:
            return True
    return False


def fraction_lines(
    pieces: Sequence[Piece], rules: Sequence[Rule]
) -> Iterator[tuple[list[Piece], list[str]]]:
    """The pieces of each line that has fractions, and the line."""
    left = list(_fractions(pieces, rules))
    inside = {piece.first for fraction in left for piece in fraction.pieces}
    if len(inside) < sum(len(fraction.pieces) for fraction in left):
        return  # fractions in fractions; pdfium's order is as good
    others = [piece for piece in pieces if piece.first not in inside]
    while left:
        line = [left.pop(0)]
        level = line[0].rule.at
        beside = [one for one in left if abs(one.rule.at - level) <= _OFF_LEVEL * one.height]
        texts = [one for one in others if abs(one.middle - level) <= _OFF_LEVEL * line[0].height]
        found = _chain(line[0], beside, texts)
        words = [one for one in found if isinstance(one, Piece)]
        fractions = [one for one in found if isinstance(one, _Fraction)]
        left = [one for one in left if one not in fractions]
        if words:
            used = [*words, *(piece for one in fractions for piece in one.pieces)]
            yield used, [" ".join(one.text for one in found)]


def _bars(rules: Sequence[Rule]) -> Iterator[Rule]:
    level = [one for one in rules if not one.is_upright]
    if len(level) <= _MOST_RULES:
        yield from (one for one in level if one.high - one.low <= _LONGEST_POINTS)


def _fractions(pieces: Sequence[Piece], rules: Sequence[Rule]) -> Iterator[_Fraction]:
    for bar in _bars(rules):
        within = [
            one
            for one in pieces
            if bar.low - _OVERHANG * one.height <= one.box[0]
            and one.box[2] <= bar.high + _OVERHANG * one.height
        ]
        upper = tuple(
            one
            for one in within
            if one.middle > bar.at and abs(one.box[1] - bar.at) <= _FURTHEST * one.height
        )
        lower = tuple(
            one
            for one in within
            if one.middle < bar.at and abs(one.box[3] - bar.at) <= _FURTHEST * one.height
        )
        if upper and lower and _fills(upper, lower, bar):
            yield _Fraction(bar, upper, lower)


def _fills(upper: Sequence[Piece], lower: Sequence[Piece], bar: Rule) -> bool:
    """Whether both are one text, and the line as long as the longer: cells of a table are not."""
    width = 0.0
    for pieces in (upper, lower):
        gap = _WIDEST_INSIDE * max(one.height for one in pieces)
        row = sorted((one.box for one in pieces), key=lambda box: box[0])
        if any(right[0] - left[2] > gap for left, right in pairwise(row)):
            return False
        width = max(width, row[-1][2] - row[0][0])
    return bar.high - bar.low <= width + max(one.height for one in (*upper, *lower))


def _chain(
    start: _Fraction, beside: Sequence[_Fraction], texts: Sequence[Piece]
) -> list[_Fraction | Piece]:
    """What stands on the line of a fraction without a wide gap, from left to right."""
    members: list[_Fraction | Piece] = [start, *beside, *texts]
    row = sorted(members, key=lambda one: _span(one)[0])
    at = row.index(start)
    first = last = at
    gap = _WIDEST_GAP * start.height
    while first and _span(row[first])[0] - _span(row[first - 1])[1] <= gap:
        first -= 1
    while last + 1 < len(row) and _span(row[last + 1])[0] - _span(row[last])[1] <= gap:
        last += 1
    return row[first : last + 1]


def _span(one: "_Fraction | Piece") -> tuple[float, float]:
    return (one.rule.low, one.rule.high) if isinstance(one, _Fraction) else (one.box[0], one.box[2])


def _joined(pieces: Sequence[Piece]) -> str:
    return " ".join(piece.text for piece in sorted(pieces, key=lambda piece: piece.box[0]))
