"""Text on a PDF page that no one who looks at the page can see: invisible ink, white on white,
letters too small to be letters, and what lies off the page.

Such text may carry orders to a model, or be the text layer of a scan. Text that is drawn invisible
over an image of at least half the page is taken for the work of a scanner's OCR: that IS the text
of the page. Any other such text is kept, and marked.
"""

import ctypes
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

from mm1cli.ingest.readers.pdf_calls import ADDRESS, INT, address_of, function
from mm1cli.ingest.readers.pdf_ground import NEARLY_WHITE, Box, Ground, is_nearly_white
from mm1cli.ingest.readers.pdf_raised import Raised, may_be_off_line, raised_letters
from mm1cli.ingest.readers.pdf_rules import Rule, rules_of

if TYPE_CHECKING:
    from pypdfium2 import PdfPage

_Walk = Iterator[tuple[int, int, int]]
_Matrix = tuple[float, float, float, float, float, float]

INVISIBLE, OFF_PAGE = "invisible", "off page"
_DEEPEST_FORM = 5
_SCAN_SHARE = 0.5  # of the page
_MARGIN_POINTS = 1.0
_FILL_MODE, _INKLESS_MODES = 0, frozenset({3, 7})  # of text: PDF 32000-1, table 106
_SMALLEST_POINTS = 1.1  # the height of a letter; print begins at 4, and Word ends at 1
_CORNERS = 4
_MOST_RULES = 4_001
_MOST_SEGMENTS = 2_000
_FAINTEST = 0x10  # of 0xff, opaque
_SAME: _Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
# pdfium writes into these; they are shared, as making new ones would cost more than the question.
_BOX, _COLOUR = (ctypes.c_float * 4)(), (ctypes.c_uint * 4)()
_FOUR_FLOATS = struct.Struct("4f").unpack_from
_BOX_PLACES = tuple(ctypes.addressof(_BOX) + 4 * at for at in range(4))
_MODES = (ctypes.c_int * 2)()
_MODE_PLACES = tuple(ctypes.addressof(_MODES) + 4 * at for at in range(2))
_COLOUR_PLACES = tuple(ctypes.addressof(_COLOUR) + 4 * at for at in range(4))
_NUMBER = ctypes.c_float()


@dataclass(slots=True)
class Survey:
    """What a page has. `marks` names the text objects, by address, that cannot be seen."""

    has_image: bool = False
    has_large_image: bool = False
    has_ink_without_colour: bool = False
    marks: dict[int, str] = field(default_factory=dict)
    text_boxes: list[Box] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    raised: list[Raised] = field(default_factory=list)

    @property
    def is_scan(self) -> bool:
        return self.has_large_image and self.has_ink_without_colour

    @property
    def is_suspicious(self) -> bool:
        return bool(self.marks)


def survey(page: "PdfPage") -> Survey:
    """Looks at every object once; a page without odd ones needs no look at its characters."""
    import pypdfium2.raw as c

    seen = Survey()
    box = page.get_bbox()
    ground = Ground(box)
    # What is painted matters only below white letters, which most pages do not have.
    unpainted: list[tuple[int, int, int, Box]] = []

    def painted() -> Ground:
        for one in unpainted:
            _paint(*one, ground)
        unpainted.clear()
        return ground

    area = abs(box[2] - box[0]) * abs(box[3] - box[1])
    # The matrices of the forms around the object at hand.
    around: list[_Matrix] = [_SAME]
    without_colour: list[int] = []
    text_kind = c.FPDF_PAGEOBJ_TEXT
    on_line = 0
    before: Box = (0.0, 0.0, 0.0, 0.0)
    for item, kind, level in _objects(page):
        del around[level + 1 :]
        if kind == c.FPDF_PAGEOBJ_FORM:
            around.append(_product(_matrix(item), around[-1]))
            continue
        bounds = _bounds(item) if around[-1] is _SAME else _moved(_bounds(item), around[-1])
        if kind == text_kind:
            seen.text_boxes.append(bounds)
            ink = _ink(item)
            if around[-1] is _SAME:
                if may_be_off_line(bounds, before) and (
                    found := raised_letters(item, bounds, on_line, before[2])
                ):
                    seen.raised.append(found)
                else:
                    on_line, before = item, bounds
            # By far the most common case: in the page, of a size, and dark.
            if ink and min(ink) < NEARLY_WHITE and _is_plain(bounds, box):
                continue
            if ink is None:
                without_colour.append(item)
                seen.has_ink_without_colour = True
            elif mark := _mark(item, ink, bounds, around[-1], box, painted):
                seen.marks[item] = mark
            continue
        if kind == c.FPDF_PAGEOBJ_IMAGE:
            seen.has_image = True
            left, bottom, right, top = bounds
            seen.has_large_image |= (right - left) * (top - bottom) >= _SCAN_SHARE * area
        elif kind == c.FPDF_PAGEOBJ_PATH and len(seen.rules) < _MOST_RULES:
            seen.rules += rules_of_path(item, bounds, around[-1])
        unpainted.append((item, kind, level, bounds))
    if not seen.has_large_image:
        seen.marks |= dict.fromkeys(without_colour, INVISIBLE)
    return seen


@dataclass(frozen=True, slots=True)
class _Calls:
    """What is asked of each object, by its address."""

    bounds: Callable[..., int]
    mode: Callable[..., int]
    fill: Callable[..., int]
    stroke: Callable[..., int]
    draw_mode: Callable[..., int]
    num_segments: Callable[..., int]


@cache
def _calls() -> _Calls:
    return _Calls(
        bounds=function("FPDFPageObj_GetBounds", INT, *[ADDRESS] * 5),
        mode=function("FPDFTextObj_GetTextRenderMode", INT, ADDRESS),
        fill=function("FPDFPageObj_GetFillColor", INT, *[ADDRESS] * 5),
        stroke=function("FPDFPageObj_GetStrokeColor", INT, *[ADDRESS] * 5),
        draw_mode=function("FPDFPath_GetDrawMode", INT, *[ADDRESS] * 3),
        num_segments=function("FPDFPath_CountSegments", INT, ADDRESS),
    )


def _objects(page: "PdfPage") -> _Walk:
    """The address of each object, its type and the number of forms around it; a form comes before
    what is in it."""
    import pypdfium2.raw as c

    form_kind = c.FPDF_PAGEOBJ_FORM
    kind_of = function("FPDFPageObj_GetType", INT, ADDRESS)
    in_page = function("FPDFPage_GetObject", ADDRESS, ADDRESS, INT)
    in_form = function("FPDFFormObj_GetObject", ADDRESS, ADDRESS, ctypes.c_ulong)
    count_of = function("FPDFFormObj_CountObjects", INT, ADDRESS)

    def inside(count: int, at: Callable[[int], int | None], level: int) -> _Walk:
        for index in range(count):
            if (item := at(index)) is None:
                continue
            kind = kind_of(item)
            yield item, kind, level
            if kind == form_kind and level < _DEEPEST_FORM - 1:
                yield from inside(count_of(item), partial(in_form, item), level + 1)

    own = partial(in_page, address_of(page.raw))
    yield from inside(c.FPDFPage_CountObjects(page.raw), own, 0)


def rules_of_path(item: int, bounds: Box, around: _Matrix) -> Iterator[Rule]:
    """The level and upright lines of a path; its parts are looked at where it has many."""
    import pypdfium2.raw as c

    num_segments = _calls().num_segments(item)
    _, stroke = _draw_mode(item)
    if num_segments <= _CORNERS + 1:
        yield from rules_of(bounds, is_stroked=bool(stroke))
        return
    path = _handle(item)
    matrix = _product(_matrix(item), around)
    x, y = ctypes.c_float(), ctypes.c_float()
    part: list[tuple[float, float]] = []
    for index in range(min(num_segments, _MOST_SEGMENTS) + 1):
        segment = c.FPDFPath_GetPathSegment(path, index) if index < num_segments else None
        kind = c.FPDFPathSegment_GetType(segment) if segment else c.FPDF_SEGMENT_MOVETO
        if kind == c.FPDF_SEGMENT_MOVETO and part:
            box = _moved(_box_of(part), matrix)
            yield from rules_of(box, is_stroked=bool(stroke) and len(part) > _CORNERS - 1)
            part = []
        if kind == c.FPDF_SEGMENT_BEZIERTO:
            return
        if segment and c.FPDFPathSegment_GetPoint(segment, x, y):
            part.append((x.value, y.value))


def _box_of(points: Sequence[tuple[float, float]]) -> Box:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


def _mark(
    item: int,
    ink: tuple[int, int, int] | tuple[()],
    bounds: Box,
    around: _Matrix,
    page: Box,
    ground: Callable[[], Ground],
) -> str:
    if _is_outside(bounds, page):
        return OFF_PAGE
    if _is_tiny(item, bounds, around):
        return INVISIBLE
    is_white = bool(ink) and is_nearly_white(*ink)
    return INVISIBLE if is_white and not ground().shows_white_at(bounds) else ""


def _is_plain(bounds: Box, page: Box) -> bool:
    left, bottom, right, top = bounds
    return (
        left > page[0]
        and right < page[2]
        and bottom > page[1]
        and top < page[3]
        and right - left > _SMALLEST_POINTS
        and top - bottom > _SMALLEST_POINTS
    )


def _ink(item: int) -> tuple[int, int, int] | tuple[()] | None:
    """The colour of letters that are filled; () where they are drawn otherwise, as with an outline
    of another colour; None where nothing is drawn at all."""
    mode = _calls().mode(item)
    if mode in _INKLESS_MODES:
        return None
    if mode != _FILL_MODE or not _has_colour(item):
        return ()
    red, green, blue, opacity = _COLOUR
    return None if opacity < _FAINTEST else (red, green, blue)


def _is_tiny(item: int, bounds: Box, around: _Matrix) -> bool:
    """By its font and by its outline: fonts of bitmaps have sizes that mean nothing."""
    import pypdfium2.raw as c

    left, bottom, right, top = bounds
    if min(right - left, top - bottom) > _SMALLEST_POINTS:
        return False
    if not c.FPDFTextObj_GetFontSize(_handle(item), _NUMBER):
        return False
    matrix = _product(_matrix(item), around)
    return abs(_NUMBER.value) * math.hypot(matrix[2], matrix[3]) < _SMALLEST_POINTS


def _paint(item: int, kind: int, level: int, bounds: Box, ground: Ground) -> None:
    """Images and shadings count as painted, whatever is on them."""
    import pypdfium2.raw as c

    if kind != c.FPDF_PAGEOBJ_PATH:
        ground.paint(bounds)
        return
    fill, stroke = _draw_mode(item)
    if fill != c.FPDF_FILLMODE_NONE:
        is_coloured = _has_colour(item)
        if not is_coloured or _COLOUR[3] >= _FAINTEST:
            is_white = is_coloured and is_nearly_white(*_rgb())
            if not is_white or _fills_its_bounds(item, level):
                ground.paint(bounds, is_white=is_white)
        return
    is_known = stroke and _calls().stroke(item, *_COLOUR_PLACES)
    if is_known and not is_nearly_white(*_rgb()) and _is_bar(item, bounds):
        ground.paint(bounds)


def _is_bar(item: int, bounds: Box) -> bool:
    """Whether a line is so thick that it fills its bounds, as some draw the ground of a title."""
    import pypdfium2.raw as c

    left, bottom, right, top = bounds
    is_known = c.FPDFPageObj_GetStrokeWidth(_handle(item), _NUMBER)
    return bool(is_known) and min(right - left, top - bottom) <= 2 * _NUMBER.value


def _fills_its_bounds(item: int, level: int) -> bool:
    """A rectangle, and none that is cut to some other shape."""
    import pypdfium2.raw as c

    path = _handle(item)
    clip = c.FPDFPageObj_GetClipPath(path)
    is_cut = bool(clip) and c.FPDFClipPath_CountPaths(clip) > 0
    return level == 0 and not is_cut and c.FPDFPath_CountSegments(path) <= _CORNERS + 1


def _draw_mode(item: int) -> tuple[int, int]:
    """How a path is filled, and whether its lines are drawn; neither where pdfium does not say."""
    if not _calls().draw_mode(item, *_MODE_PLACES):
        return 0, 0
    fill, stroke = _MODES
    return fill, stroke


def _has_colour(item: int) -> bool:
    """Whether it is filled with one colour, which is then in `_COLOUR`, and not with a pattern."""
    return bool(_calls().fill(item, *_COLOUR_PLACES))


def _rgb() -> tuple[int, int, int]:
    red, green, blue, _ = _COLOUR
    return red, green, blue


def _handle(item: int) -> Any:  # noqa: ANN401
    """As pypdfium2's own functions take it."""
    import pypdfium2.raw as c

    return ctypes.cast(item, c.FPDF_PAGEOBJECT)


def _matrix(item: int) -> _Matrix:
    import pypdfium2.raw as c

    found = c.FS_MATRIX()
    if not c.FPDFPageObj_GetMatrix(_handle(item), found):
        return _SAME
    return (found.a, found.b, found.c, found.d, found.e, found.f)


def _product(inner: _Matrix, outer: _Matrix) -> _Matrix:
    a, b, c, d, e, f = inner
    p, q, r, s, t, u = outer
    return (
        a * p + b * r,
        a * q + b * s,
        c * p + d * r,
        c * q + d * s,
        e * p + f * r + t,
        e * q + f * s + u,
    )


def _bounds(item: int) -> Box:
    if not _calls().bounds(item, *_BOX_PLACES):
        return (0.0, 0.0, 0.0, 0.0)
    return cast(Box, _FOUR_FLOATS(_BOX))


def _moved(box: Box, matrix: _Matrix) -> Box:
    """The upright box around `box` once `matrix` has moved it."""
    if matrix == _SAME:
        return box
    a, b, c, d, e, f = matrix
    corners = [(x, y) for x in (box[0], box[2]) for y in (box[1], box[3])]
    across = [a * x + c * y + e for x, y in corners]
    up = [b * x + d * y + f for x, y in corners]
    return (min(across), min(up), max(across), max(up))


def _is_outside(bounds: Box, box: Box) -> bool:
    left, bottom, right, top = bounds
    if left == right and bottom == top:
        return False
    return (
        right < box[0] - _MARGIN_POINTS
        or left > box[2] + _MARGIN_POINTS
        or top < box[1] - _MARGIN_POINTS
        or bottom > box[3] + _MARGIN_POINTS
    )
