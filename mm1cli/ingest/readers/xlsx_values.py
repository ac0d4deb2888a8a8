"""What the cells of a workbook hold: shared strings, and numbers in the formats of styles."""

from collections.abc import Iterable

from mm1cli.ingest.readers import number_format
from mm1cli.ingest.readers.lines import signed
from mm1cli.ingest.readers.markup import (
    Element,
    attribute,
    child,
    children,
    is_true,
    local_name,
    number,
    stream_xml,
)
from mm1cli.ingest.readers.number_format import BUILT_IN
from mm1cli.ingest.readers.package import Package

_PLACES = {"superscript": "^", "subscript": "_"}


def shared_strings(package: Package, parts: Iterable[str]) -> list[str]:
    """By index. Phonetic guides are left out. Raises ReadError."""
    return [rich_text(item) for part in parts for item in stream_xml(package.stream(part), "si")]


def rich_text(element: Element) -> str:
    pieces = []
    for inner in element:
        name = local_name(inner)
        if name == "t":
            pieces.append(inner.text or "")
        elif name == "r":
            text = "".join(text.text or "" for text in children(inner, "t"))
            sign = _sign(child(inner, "rPr"))
            pieces.append(signed(text, sign, pieces) if sign else text)
    return "".join(pieces)


def _sign(font: Element | None) -> str:
    """Whether letters are raised, lowered or struck, as `signed` takes it."""
    if font is None:
        return ""
    if (place := child(font, "vertAlign")) is not None:
        return _PLACES.get(attribute(place, "val"), "")
    struck = child(font, "strike")
    return "~" if struck is not None and is_true(attribute(struck, "val"), default=True) else ""


class Styles:
    """The number formats of cell styles, and what signs their letters have, by the index that
    cells give."""

    def __init__(self, root: Element | None) -> None:
        self._codes: list[str] = []
        self._signs: list[str] = []
        if root is None:
            return
        formats = child(root, "numFmts")
        own = {
            number(entry, "numFmtId"): attribute(entry, "formatCode")
            for entry in (() if formats is None else formats)
        }
        fonts = child(root, "fonts")
        signs = dict(enumerate(map(_sign, () if fonts is None else fonts)))
        styles = child(root, "cellXfs")
        for style in () if styles is None else styles:
            key = number(style, "numFmtId")
            self._codes.append(own.get(key, BUILT_IN.get(key, "")))
            self._signs.append(signs.get(number(style, "fontId"), ""))

    def signed(self, text: str, style: int) -> str:
        """The text of a cell, with the signs of its font."""
        sign = self._signs[style] if 0 <= style < len(self._signs) else ""
        return signed(text, sign) if sign and text else text

    def shown(self, value: str, style: int, *, since_1904: bool) -> str:
        """A stored number as the cell shows it; without a format as stored, to 15 digits."""
        code = self._codes[style] if 0 <= style < len(self._codes) else ""
        return number_format.shown(value, code or "General", since_1904=since_1904)
