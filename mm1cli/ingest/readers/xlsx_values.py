"""What the cells of a workbook hold: shared strings, and numbers in the formats of styles."""

from collections.abc import Iterable

from mm1cli.ingest.readers import number_format
from mm1cli.ingest.readers.markup import (
    Element,
    attribute,
    child,
    children,
    local_name,
    number,
    stream_xml,
)
from mm1cli.ingest.readers.number_format import BUILT_IN
from mm1cli.ingest.readers.package import Package


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
            pieces += [text.text or "" for text in children(inner, "t")]
    return "".join(pieces)


class Styles:
    """The number formats of cell styles, by the index that cells give."""

    def __init__(self, root: Element | None) -> None:
        self._codes: list[str] = []
        if root is None:
            return
        formats = child(root, "numFmts")
        own = {
            number(entry, "numFmtId"): attribute(entry, "formatCode")
            for entry in (() if formats is None else formats)
        }
        styles = child(root, "cellXfs")
        for style in () if styles is None else styles:
            key = number(style, "numFmtId")
            self._codes.append(own.get(key, BUILT_IN.get(key, "")))

    def shown(self, value: str, style: int, *, since_1904: bool) -> str:
        """A stored number as the cell shows it; without a format as stored, to 15 digits."""
        code = self._codes[style] if 0 <= style < len(self._codes) else ""
        return number_format.shown(value, code or "General", since_1904=since_1904)
