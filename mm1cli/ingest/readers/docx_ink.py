"""Text of a Word document that is there and cannot be seen: white on white, or too small."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mm1cli.ingest.readers.markup import Element, attribute, child, local_name, number

_T = TypeVar("_T")

_NEARLY_WHITE = 0xF0
_SMALLEST_HALF_POINTS = 2  # one point, the smallest that Word offers; print begins at four
_WHITE_THEMES = frozenset({"background1", "light1"})
_NO_FILL = frozenset({"", "auto"})


@dataclass(frozen=True, slots=True)
class Ink:
    """How text is written. None is not said; then what is above it in the document decides."""

    is_white: bool | None = None
    half_points: int | None = None
    is_on_ground: bool = False  # of its own, as a highlight or a coloured paragraph


def ink_of(properties: Element) -> Ink:
    """Of the properties of a run, a paragraph or a cell."""
    colour, size = child(properties, "color"), child(properties, "sz")
    return Ink(
        None if colour is None else _is_white_text(colour),
        None if size is None else number(size, "val", _SMALLEST_HALF_POINTS + 1),
        paints(properties),
    )


def ink_of_style(chain: Sequence[Element]) -> Ink:
    """Of a style with those it is based on, its own first."""
    runs = [run for style in chain if (run := child(style, "rPr")) is not None]
    inks = [ink_of(run) for run in runs]
    # The styles of tables colour rows and cells by conditions; any of them may be met.
    is_on_ground = any(paints(part) for style in chain for part in style.iter())
    return Ink(
        _first(ink.is_white for ink in inks), _first(ink.half_points for ink in inks), is_on_ground
    )


def is_unseen(inks: Sequence[Ink], *, is_on_ground: bool) -> bool:
    """Of text whose `inks` are those of its run, its run's style and its paragraph's."""
    size = _first(ink.half_points for ink in inks)
    if size is not None and size <= _SMALLEST_HALF_POINTS:
        return True
    is_white = bool(_first(ink.is_white for ink in inks))
    return is_white and not is_on_ground and not any(ink.is_on_ground for ink in inks)


def paints(properties: Element | None) -> bool:
    """Whether these properties colour the ground: a shading or a highlight that is not white."""
    for inner in properties if properties is not None else ():
        name = local_name(inner)
        if name == "shd":
            has_theme = bool(attribute(inner, "themeFill"))
            if has_theme or _is_colour(attribute(inner, "fill")):
                return True
            if attribute(inner, "val").lower() not in {"", "clear", "nil"}:
                return True
        elif name == "highlight" and attribute(inner, "val").lower() not in {"", "none", "white"}:
            return True
    return False


def is_coloured_page(document: Element) -> bool:
    """Whether the document has a background of its own."""
    background = child(document, "background")
    return background is not None and (
        _is_colour(attribute(background, "color")) or len(background) > 0
    )


def _is_white_text(colour: Element) -> bool:
    if attribute(colour, "themeColor").lower() in _WHITE_THEMES:
        return not attribute(colour, "themeShade")
    value = attribute(colour, "val").lower()
    return value not in _NO_FILL and not _is_colour(value)


def _is_colour(value: str) -> bool:
    """Whether "1F3864" is seen beside white; what cannot be read counts as seen."""
    if value.lower() in _NO_FILL:
        return False
    try:
        parts = bytes.fromhex(value)
    except ValueError:
        return True
    return len(parts) != 3 or min(parts) < _NEARLY_WHITE


def _first(values: Iterable[_T | None]) -> _T | None:
    return next((value for value in values if value is not None), None)
