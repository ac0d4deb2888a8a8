"""Raised and lowered letters of a PDF page: 2×10⁶ is drawn as "2×10", then a smaller "6" above it.

Producers change the font for such letters, so each is a text object of its own, right behind a
larger one and off its line.
"""

import ctypes
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm1cli.ingest.readers.pdf_ground import Box

if TYPE_CHECKING:
    from pypdfium2 import PdfTextPage

_WIDEST_POINTS = 30.0
_MOST_LETTERS = 8
_MOST_ON_PAGE = 500
_RATIOS = (0.5, 0.82)  # of the sizes of the fonts; a drop cap is more than twice its text
_GAPS = (-0.25, 0.4)  # to the letters before, in their size
_RISES = (0.15, 0.7)
_FALLS = (-0.5, -0.08)
_NEAR_POINTS = 2.0
_SAME_LINE_SHARE = 0.5
_FRACTIONS = frozenset("/⁄∕")
_NUMBER = ctypes.c_float()


@dataclass(frozen=True, slots=True)
class Raised:
    """A text object, by address, with a point inside of it and the sign of its place."""

    address: int
    x: float
    y: float
    sign: str


def may_be_off_line(bounds: Box, before: Box) -> bool:
    """Whether letters at `bounds` may be raised or lowered beside those at `before`: a cheap look
    at the outlines, which leaves few to ask for their fonts."""
    left, bottom, right, top = bounds
    height, own = before[3] - before[1], top - bottom
    if right - left > _WIDEST_POINTS or own > height:
        return False
    if not -own <= left - before[2] <= height:
        return False
    return bottom > before[1] + height / 4 or top < before[3] - height / 4


def raised_letters(item: int, bounds: Box, before: int, end: float) -> Raised | None:
    """The object at the address `item` if its font and place say that it hangs on the one at
    `before`, which ends at `end`."""
    (size, line), (other, other_line) = _size_and_line(item), _size_and_line(before)
    if not other or not _RATIOS[0] <= size / other <= _RATIOS[1]:
        return None
    if not _GAPS[0] <= (bounds[0] - end) / other <= _GAPS[1]:
        return None
    rise = (line - other_line) / other
    sign = "^" if _RISES[0] <= rise <= _RISES[1] else "_" if _FALLS[0] <= rise <= _FALLS[1] else ""
    if not sign:
        return None
    return Raised(item, (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2, sign)


@dataclass(frozen=True, slots=True)
class Run:
    """Letters `first` to `last` with their sign; `end` is the letter after them and after the line
    break that pdfium takes their place for."""

    first: int
    last: int
    sign: str
    end: int


def runs_of(text_page: "PdfTextPage", raised: Sequence[Raised]) -> Iterator[Run]:
    """Those that hang on a letter, in the order of the text; fractions are no powers."""
    import pypdfium2.raw as c

    raw, count = text_page.raw, text_page.count_chars()
    found: dict[int, Run] = {}

    def is_in(index: int, address: int) -> bool:
        item = c.FPDFText_GetTextObject(raw, index)
        return 0 <= index < count and ctypes.cast(item, ctypes.c_void_p).value == address

    for one in raised[:_MOST_ON_PAGE]:
        at = c.FPDFText_GetCharIndexAtPos(raw, one.x, one.y, _NEAR_POINTS, _NEAR_POINTS)
        if not is_in(at, one.address):
            continue
        first = last = at
        while first and is_in(first - 1, one.address):
            first -= 1
        while is_in(last + 1, one.address):
            last += 1
        end = last + 1
        while end < count and c.FPDFText_IsGenerated(raw, end) == 1:
            end += 1
        after = chr(c.FPDFText_GetUnicode(raw, end)) if end < count else ""
        hangs = first > 0 and not chr(c.FPDFText_GetUnicode(raw, first - 1)).isspace()
        if last - first < _MOST_LETTERS and hangs and after not in _FRACTIONS:
            is_same_line = end < count and _is_behind(raw, first - 1, end)
            found[first] = Run(first, last, one.sign, end if is_same_line else last + 1)
    yield from (found[first] for first in sorted(found))


def _is_behind(raw: object, before: int, after: int) -> bool:
    """Whether a letter stands on the line of another, to the right of it."""
    import pypdfium2.raw as c

    one, other = c.FS_RECTF(), c.FS_RECTF()
    if not (
        c.FPDFText_GetLooseCharBox(raw, before, one)
        and c.FPDFText_GetLooseCharBox(raw, after, other)
    ):
        return False
    height = max(one.top - one.bottom, other.top - other.bottom)
    is_level = abs(one.top + one.bottom - other.top - other.bottom) < _SAME_LINE_SHARE * height
    return bool(is_level and other.left >= one.right)


def with_signs(text_page: "PdfTextPage", runs: Sequence[Run]) -> str:
    """The page's text as pdfium gives it, with the signs of `runs`."""

    def text(first: int, end: int) -> str:
        given: str = text_page.get_text_range(first, end - first, errors="surrogatepass")
        return given

    pieces: list[str] = []
    at = 0
    for run in runs:
        if run.first > at:
            pieces.append(text(at, run.first))
        pieces.append(f"{run.sign}{{{text(run.first, run.last + 1).strip()}}}")
        at = run.end
    if at < text_page.count_chars():
        pieces.append(text(at, text_page.count_chars()))
    return "".join(pieces)


def _size_and_line(item: int) -> tuple[float, float]:
    """The size of the font in points, and where its line is."""
    import pypdfium2.raw as c

    matrix, handle = c.FS_MATRIX(), ctypes.cast(item, c.FPDF_PAGEOBJECT)
    if not (c.FPDFTextObj_GetFontSize(handle, _NUMBER) and c.FPDFPageObj_GetMatrix(handle, matrix)):
        return 0.0, 0.0
    return abs(_NUMBER.value) * math.hypot(matrix.c, matrix.d), matrix.f
