"""Text on a PDF page that no one who looks at the page can see: invisible ink, and off the page.

Such text may carry orders to a model, or be the text layer of a scan. Text that is drawn invisible
over an image of at least half the page is taken for the work of a scanner's OCR: that IS the text
of the page. Any other invisible text is kept, and marked.
"""

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pypdfium2 import PdfPage, PdfTextPage

_DEEPEST_FORM = 3
_SCAN_SHARE = 0.5  # of the page
_MARGIN_POINTS = 1.0
# pdfium writes into these; they are shared, as making new ones would cost more than the question.
_BOX = tuple(ctypes.c_float() for _ in range(4))
_COLOUR = tuple(ctypes.c_uint() for _ in range(4))


@dataclass(slots=True)
class Survey:
    """What kinds of objects a page has."""

    has_image: bool = False
    has_large_image: bool = False
    has_invisible: bool = False
    has_off_page: bool = False

    @property
    def is_scan(self) -> bool:
        return self.has_large_image and self.has_invisible


def survey(page: "PdfPage") -> Survey:
    """Looks at every object once; a page without odd ones needs no look at its characters."""
    import pypdfium2.raw as c

    seen = Survey()
    box = page.get_bbox()
    area = abs(box[2] - box[0]) * abs(box[3] - box[1])
    for item in page.get_objects(max_depth=_DEEPEST_FORM):
        if item.type == c.FPDF_PAGEOBJ_IMAGE:
            seen.has_image = True
            left, bottom, right, top = _bounds(item.raw)
            # An image in a form has its bounds in the form's own space: then any size may be.
            is_large = (right - left) * (top - bottom) >= _SCAN_SHARE * area
            seen.has_large_image |= is_large or item.level > 0
        elif item.type == c.FPDF_PAGEOBJ_TEXT:
            seen.has_invisible |= _is_invisible(item.raw)
            seen.has_off_page |= item.level == 0 and _is_outside(_bounds(item.raw), box)
    return seen


def is_suspicious(seen: Survey) -> bool:
    return seen.has_off_page or (seen.has_invisible and not seen.is_scan)


def parts_by_visibility(page: "PdfPage", text_page: "PdfTextPage") -> list[tuple[str, str]]:
    """The page's text as (mark, text), what can be seen first."""
    import pypdfium2.raw as c

    box = page.get_bbox()
    marks: dict[int, str] = {}
    texts: dict[str, list[str]] = {"": [], "invisible": [], "off page": []}
    mark = ""
    for index in range(text_page.count_chars()):
        if not c.FPDFText_IsGenerated(text_page.raw, index):
            item = c.FPDFText_GetTextObject(text_page.raw, index)
            address = ctypes.cast(item, ctypes.c_void_p).value or 0
            if address not in marks:
                marks[address] = _mark(item, box) if address else ""
            now = marks[address]
            if now != mark and texts[now]:
                texts[now].append("\n")
            mark = now
        texts[mark].append(chr(c.FPDFText_GetUnicode(text_page.raw, index)))
    return [(mark, "".join(characters)) for mark, characters in texts.items()]


def _mark(item: object, box: tuple[float, float, float, float]) -> str:
    if _is_invisible(item):
        return "invisible"
    return "off page" if _is_outside(_bounds(item), box) else ""


def _is_invisible(item: object) -> bool:
    import pypdfium2.raw as c

    mode = c.FPDFTextObj_GetTextRenderMode(item)
    if mode in {c.FPDF_TEXTRENDERMODE_INVISIBLE, c.FPDF_TEXTRENDERMODE_CLIP}:
        return True
    if mode != c.FPDF_TEXTRENDERMODE_FILL:
        return False
    found = c.FPDFPageObj_GetFillColor(item, *_COLOUR)
    return bool(found) and _COLOUR[3].value == 0


def _bounds(item: object) -> tuple[float, float, float, float]:
    import pypdfium2.raw as c

    if not c.FPDFPageObj_GetBounds(item, *_BOX):
        return (0.0, 0.0, 0.0, 0.0)
    left, bottom, right, top = _BOX
    return (left.value, bottom.value, right.value, top.value)


def _is_outside(
    bounds: tuple[float, float, float, float], box: tuple[float, float, float, float]
) -> bool:
    left, bottom, right, top = bounds
    if left == right and bottom == top:
        return False
    return (
        right < box[0] - _MARGIN_POINTS
        or left > box[2] + _MARGIN_POINTS
        or top < box[1] - _MARGIN_POINTS
        or bottom > box[3] + _MARGIN_POINTS
    )
