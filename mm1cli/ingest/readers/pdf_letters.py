"""The letters of a PDF page with their boxes, and the pieces of lines they make.

Asking pdfium for each box costs more than all the rest of a page, so only pages on which there is
something to arrange are read this way.
"""

import ctypes
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm1cli.ingest.readers.pdf_calls import ADDRESS, INT, address_of, function
from mm1cli.ingest.readers.pdf_ground import Box

if TYPE_CHECKING:
    from pypdfium2 import PdfTextPage

# White space, and what pdfium may have added.
_MAY_LACK_BOX = frozenset(filter(str.isspace, map(chr, range(0x3001)))) | set("-\x02\ufffe")
_WIDE_SHARE = 0.85  # of a letter's height: a gap that no space between words has
_SAME_LINE_SHARE = 0.5
_TURNED_GAP = 0.2
_FEWEST_KINDS = 4  # of letters, to tell a font of one width from a word like "mm"
_SAME_WIDTH_SHARE = 0.02
_MANY_WORDS = 5
_BOX_BYTES = 16
_LAST_OF_ONE_UNIT = "\uffff"  # of UTF-16; pdfium counts units


@dataclass(slots=True)
class Letter:
    """A character as pdfium gives it. `box` is None for white space and what pdfium has added."""

    text: str
    box: Box | None
    mark: str = ""


@dataclass(slots=True)
class Piece:
    """Letters side by side on one line, `first` to `last` in pdfium's order, without a wide gap."""

    first: int
    last: int
    box: Box
    text: str
    is_fixed_pitch: bool = False

    @property
    def middle(self) -> float:
        return (self.box[1] + self.box[3]) / 2

    @property
    def height(self) -> float:
        return self.box[3] - self.box[1]

    @property
    def is_prose(self) -> bool:
        return len(self.text.split()) >= _MANY_WORDS


def letters_of(text_page: "PdfTextPage", marks: Mapping[int, str]) -> list[Letter]:
    """All of the page's; `marks` names the text objects, by address, that cannot be seen."""
    texts = list(_characters(text_page))
    page = address_of(text_page.raw)
    is_added = function("FPDFText_IsGenerated", INT, ADDRESS, INT)
    has_box = [
        text not in _MAY_LACK_BOX or not (text.isspace() or is_added(page, index) == 1)
        for index, text in enumerate(texts)
    ]
    boxes = _boxes(page, has_box)
    if not marks:
        return list(map(Letter, texts, boxes))
    object_of = function("FPDFText_GetTextObject", ADDRESS, ADDRESS, INT)
    return [
        Letter(text, box, marks.get(object_of(page, index) or 0, "") if has_box[index] else "")
        for index, (text, box) in enumerate(zip(texts, boxes, strict=True))
    ]


def _boxes(page: int, has_box: Sequence[bool]) -> list[Box | None]:
    """The loose box of each letter, as high as its font: a comma and a quote are on one line."""
    rectangles = (ctypes.c_float * (4 * len(has_box)))()  # left, top, right, bottom of each
    box_of = function("FPDFText_GetLooseCharBox", INT, ADDRESS, INT, ADDRESS)
    place = ctypes.addressof(rectangles)
    is_there = [
        has and box_of(page, index, place + _BOX_BYTES * index) != 0
        for index, has in enumerate(has_box)
    ]
    return [
        (left, bottom, right, top) if there else None
        for there, (left, top, right, bottom) in zip(
            is_there, struct.iter_unpack("4f", rectangles), strict=True
        )
    ]


def _characters(text_page: "PdfTextPage") -> Iterable[str]:
    """One for each index that pdfium knows; its text has them all unless it left some out."""
    import pypdfium2.raw as c

    count = text_page.count_chars()
    text: str = text_page.get_text_range(errors="surrogatepass")
    if len(text) == count and max(text, default="") <= _LAST_OF_ONE_UNIT:
        return text
    raw = text_page.raw
    return (chr(c.FPDFText_GetUnicode(raw, index)) for index in range(count))


def pieces_of(letters: Sequence[Letter]) -> list[Piece]:
    """The pieces of what can be seen, in pdfium's order."""
    found: list[Piece] = []
    at: list[int] = []
    left = bottom = right = top = 0.0
    for index, letter in enumerate(letters):
        box = letter.box
        if box is None or letter.mark:
            continue
        x0, y0, x1, y1 = box
        if at:
            gap = x0 - right
            if (
                y0 == bottom
                and y1 == top
                and bottom - top <= gap <= _WIDE_SHARE * (top - bottom)
                and x1 > right
                and x0 >= left
            ):
                # By far the most common case: the font of the letter before, on its line.
                right = x1
                at.append(index)
                continue
            height = max(top - bottom, y1 - y0)
            is_off = abs(y0 + y1 - bottom - top) > 2 * _SAME_LINE_SHARE * height
            if (is_off or gap < -height or gap > _WIDE_SHARE * height) and not (
                index == at[-1] + 1 and _is_turned(letters[at[-1]].box, box)
            ):
                found.append(_piece(letters, at, (left, bottom, right, top)))
                at = []
        if not at:
            left, bottom, right, top = box
        else:
            left = x0 if x0 < left else left
            bottom = y0 if y0 < bottom else bottom
            right = x1 if x1 > right else right
            top = y1 if y1 > top else top
        at.append(index)
    if at:
        found.append(_piece(letters, at, (left, bottom, right, top)))
    return found


def _is_turned(before: Box | None, box: Box) -> bool:
    """Whether a letter stands above or below the one before it: text that runs up the page."""
    if before is None:
        return False
    is_over = abs(before[0] + before[2] - box[0] - box[2]) <= box[2] - box[0]
    gap = max(before[1], box[1]) - min(before[3], box[3])
    return is_over and abs(gap) <= _TURNED_GAP * (box[3] - box[1])


def text_of(letters: Sequence[Letter], first: int, last: int) -> str:
    """The visible letters from `first` to `last` as one line."""
    text = "".join(letter.text for letter in letters[first : last + 1] if not letter.mark)
    return " ".join(text.split())


def _piece(letters: Sequence[Letter], at: list[int], box: Box) -> Piece:
    first, last = at[0], at[-1]
    text = text_of(letters, first, last)
    return Piece(first, last, box, text, _is_fixed_pitch([letters[index] for index in at]))


def _is_fixed_pitch(letters: Sequence[Letter]) -> bool:
    """Whether all letters are of one width, as in program code."""
    if len({letter.text for letter in letters}) < _FEWEST_KINDS:
        return False
    widths = [letter.box[2] - letter.box[0] for letter in letters if letter.box is not None]
    return max(widths) - min(widths) <= _SAME_WIDTH_SHARE * max(widths)
