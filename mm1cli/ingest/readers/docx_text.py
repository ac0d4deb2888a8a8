"""The text of WordprocessingML in the order it stands in the XML.

python-docx's own `Document.paragraphs` passes over tables, content controls, tracked insertions
and text boxes.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Protocol, Self

_LINE_BREAKS = re.compile(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")
# Fallback repeats what the AlternateContent around it says in newer markup.
_NOT_TEXT = frozenset({"del", "moveFrom", "pPr", "rPr", "instrText", "delText", "Fallback"})
_CHARACTERS = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}


class Element(Protocol):
    """What the walk needs of an lxml element."""

    tag: object
    text: str | None

    @property
    def attrib(self) -> Mapping[str, str]: ...
    def __iter__(self) -> Iterator[Self]: ...
    def __len__(self) -> int: ...


def local_name(element: Element) -> str:
    # Comments and processing instructions have a function for a tag.
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def attribute(element: Element, name: str) -> str:
    matches = (value for key, value in element.attrib.items() if key.rpartition("}")[2] == name)
    return next(matches, "")


class TextWalk:
    """Text in document order. Every line it yields is not empty and holds no line break."""

    def __init__(self, notes: dict[tuple[str, str], Element]) -> None:
        self._notes = notes

    def lines(self, element: Element) -> Iterator[str]:
        """The lines of a body, a cell, a header, a note or a text box."""
        for child in element:
            name = local_name(child)
            if name == "p":
                text, after = self._paragraph(child)
                if text:
                    yield text
                yield from after
            elif name == "tbl":
                yield from self._table(child)
            elif name not in _NOT_TEXT:
                yield from self.lines(child)

    def _paragraph(self, element: Element) -> tuple[str, list[str]]:
        """Its text, and the lines of text boxes and notes that are anchored in it."""
        pieces: list[str] = []
        after: list[str] = []
        self._collect(element, pieces, after)
        return _LINE_BREAKS.sub(" ", "".join(pieces)).strip(), after

    def _collect(self, element: Element, pieces: list[str], after: list[str]) -> None:
        for child in element:
            name = local_name(child)
            if name == "t":
                pieces.append(child.text or "")
            elif name in _CHARACTERS:
                pieces.append(_CHARACTERS[name])
            elif name == "txbxContent":
                after += self.lines(child)
            elif name in {"footnoteReference", "endnoteReference"}:
                key = (name.removesuffix("Reference"), attribute(child, "id"))
                # pop: a note that refers to itself must not go round for ever.
                if (note := self._notes.pop(key, None)) is not None:
                    after += self.lines(note)
            elif name not in _NOT_TEXT:
                self._collect(child, pieces, after)

    def _table(self, table: Element) -> Iterator[str]:
        for row in _inside(table, "tr"):
            cells: list[str] = []
            nested: list[str] = []
            for cell in _inside(row, "tc"):
                cells.append(self._cell(cell, nested))
            if any(cells):
                yield "\t".join(cells).rstrip("\t")
            yield from nested

    def _cell(self, cell: Element, nested: list[str]) -> str:
        texts = []
        for child in cell:
            name = local_name(child)
            if name == "p":
                text, after = self._paragraph(child)
                texts.append(text.replace("\t", " "))
                nested += after
            elif name == "tbl":
                nested += self._table(child)
            elif name not in _NOT_TEXT:
                texts += [line.replace("\t", " ") for line in self.lines(child)]
        return " ".join(text for text in texts if text)


def _inside(element: Element, wanted: str) -> Iterator[Element]:
    """The rows of a table or the cells of a row, also those in content controls."""
    for child in element:
        name = local_name(child)
        if name == wanted:
            yield child
        elif name in {"sdt", "sdtContent", "ins", "moveTo", "customXml"}:
            yield from _inside(child, wanted)
