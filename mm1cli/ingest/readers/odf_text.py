"""The text of OpenDocument markup in the order it stands in the XML."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from mm1cli.ingest.readers.lines import HeadingPath, Line, LinkList, as_heading, bullet, signed
from mm1cli.ingest.readers.markup import Element, attribute, children, local_name, names, number

_SPACE = re.compile(r"[ \t\r\n]+")
_MAX_SPACES = 64
_MAX_REPEATED = 64
_DEEPEST_LIST = 50
_NOT_TEXT = names(
    "tracked-changes sequence-decls variable-decls user-field-decls forms scripts automatic-styles"
    " master-styles styles font-face-decls ruby-text page-thumbnail note-citation settings"
    " table-of-content-source illustration-index-source table-index-source object-index-source"
    " user-index-source alphabetical-index-source bibliography-source dde-connection-decls"
)
_SHAPES = names(
    "frame custom-shape g rect ellipse circle line polyline polygon path connector caption"
    " regular-polygon measure control"
)


class TextWalk:
    """Lines in document order; what is anchored in a paragraph follows it, marked.

    `graphic` gives the lines of an embedded chart or formula by its path in the package, `looks`
    the sign ("^", "_", "~") or kind of list ("1") that a style gives its text.
    """

    def __init__(
        self,
        graphic: Callable[[str], list[Line]] | None = None,
        looks: Mapping[str, str] | None = None,
    ) -> None:
        self._graphic = graphic or (lambda _: [])
        self._looks = looks or {}
        self._num_notes: dict[str, int] = {}
        self.links = LinkList()
        self._path = HeadingPath()
        self.num_deleted = 0

    def body(self, root: Element) -> Iterator[Line]:
        """The lines of a text document, each with its heading path."""
        for line in self._lines(root, is_body=True):
            yield replace(line, headings=self._path.now)

    def marked(self, root: Element, mark: str) -> list[Line]:
        """The lines below `root`; marks inside it stay."""
        return [replace(line, mark=line.mark or mark) for line in self._lines(root)]

    def drawn(self, element: Element) -> Iterator[Line]:
        """The lines of one thing on a slide."""
        if local_name(element) == "annotation":
            yield from self._comment(element)
        elif local_name(element) in _SHAPES:
            yield from self.shape(element)

    def shape(self, element: Element) -> Iterator[Line]:
        """The lines of a frame or a drawn shape, and of what describes it."""
        for inner in element:
            name = local_name(inner)
            if name in {"desc", "title"}:
                yield Line("".join(inner.itertext()), "alt text")
            elif name == "object":
                yield from self._graphic(attribute(inner, "href"))
            elif name in _SHAPES or name == "a":
                yield from self.shape(inner)
            elif name == "p":
                yield from self._paragraph(inner)
            elif name == "table":
                yield from self._table(inner)
            elif name != "image":
                yield from self._lines(inner)

    def _lines(self, elements: Iterable[Element], *, is_body: bool = False) -> Iterator[Line]:
        for inner in elements:
            name = local_name(inner)
            if name == "tracked-changes":
                self.num_deleted += sum(1 for _ in inner.iter("{*}deletion"))
            elif name == "h":
                lines = self._paragraph(inner)
                if is_body and lines and not lines[0].mark:
                    level = number(inner, "outline-level", 1)
                    self._path.enter(level, lines[0].text)
                    lines[0] = replace(lines[0], text=as_heading(lines[0].text, level - 1))
                yield from lines
            elif name == "list":
                yield from self._list(inner, 0, "")
            elif name == "p":
                yield from self._paragraph(inner)
            elif name == "table":
                yield from self._table(inner)
            elif name in _SHAPES:
                yield from self._boxed(inner)
            elif name == "annotation":
                yield from self._comment(inner)
            elif name == "section" and attribute(inner, "display") in {"none", "condition"}:
                yield from self.marked(inner, "hidden")
            elif name not in _NOT_TEXT:
                yield from self._lines(inner, is_body=is_body)

    def _list(self, element: Element, level: int, style: str) -> Iterator[Line]:
        """Its items with their signs; the lines below an item's first have none."""
        style = attribute(element, "style-name") or style
        is_numbered = self._looks.get(f"list {style} {level + 1}") == "1"
        count = 0
        for item in element:
            if local_name(item) not in {"list-item", "list-header"} or level > _DEEPEST_LIST:
                yield from self._lines(item)
                continue
            count = number(item, "start-value", count + 1)
            sign = bullet(level, f"{count}." if is_numbered else "-")
            for inner in item:
                if local_name(inner) == "list":
                    yield from self._list(inner, level + 1, style)
                    continue
                lines = list(self._lines((inner,)))
                if lines and not lines[0].mark and local_name(item) == "list-item":
                    lines[0] = replace(lines[0], text=sign + lines[0].text)
                    sign = ""
                yield from lines

    def _paragraph(self, element: Element) -> list[Line]:
        pieces: list[str] = []
        after: list[Line] = []
        self._collect(element, pieces, after)
        text = "".join(pieces).strip()
        return [Line(text), *after] if text else after

    def _collect(self, element: Element, pieces: list[str], after: list[Line]) -> None:
        pieces.append(_SPACE.sub(" ", element.text or ""))
        for inner in element:
            name = local_name(inner)
            if name == "s":
                pieces.append(" " * max(1, min(number(inner, "c", 1), _MAX_SPACES)))
            elif name == "tab":
                pieces.append("\t")
            elif name == "line-break":
                pieces.append("\n")
            elif name == "note":
                kind = "endnote" if attribute(inner, "note-class") == "endnote" else "footnote"
                after += self._hung(kind, self.marked(inner, kind), pieces)
            elif name == "annotation":
                after += self._hung("comment", self._comment(inner), pieces)
            elif name in _SHAPES:
                after += self._boxed(inner)
            elif name in {"hidden-text", "hidden-paragraph"}:
                if text := "".join(inner.itertext()) or attribute(inner, "string-value"):
                    after.append(Line(text, "hidden"))
            elif name == "a":
                start = len(pieces)
                self._collect(inner, pieces, after)
                self.links.add("".join(pieces[start:]), attribute(inner, "href"))
            elif name == "span" and (sign := self._looks.get(attribute(inner, "style-name"))):
                own: list[str] = []
                self._collect(inner, own, after)
                pieces.append(signed("".join(own), sign, pieces))
            elif name not in _NOT_TEXT:
                self._collect(inner, pieces, after)
            pieces.append(_SPACE.sub(" ", inner.tail or ""))

    def _hung(self, kind: str, lines: list[Line], pieces: list[str]) -> list[Line]:
        """The lines of a note under its number, which is left where it hangs."""
        if not lines:
            return []
        self._num_notes[kind] = self._num_notes.get(kind, 0) + 1
        mark = f"{kind} {self._num_notes[kind]}"
        pieces.append(f"[{mark}]")
        return [replace(line, mark=mark) if line.mark == kind else line for line in lines]

    def _boxed(self, shape: Element) -> list[Line]:
        return [replace(line, mark=line.mark or "text box") for line in self.shape(shape)]

    def _comment(self, annotation: Element) -> list[Line]:
        authors = ["".join(name.itertext()) for name in children(annotation, "creator")]
        texts = [line.text for line in self._lines(annotation)]
        return [Line(": ".join([*authors, " ".join(texts)]), "comment")] if any(texts) else []

    def _table(self, table: Element) -> Iterator[Line]:
        for row in rows_of(table):
            cells: list[str] = []
            nested: list[Line] = []
            for cell in row:
                if local_name(cell) not in {"table-cell", "covered-table-cell"}:
                    continue
                texts: list[str] = []
                for inner in cell:
                    lines = list(self._lines((inner,)))
                    is_table = local_name(inner) == "table"
                    nested += [line for line in lines if line.mark or is_table]
                    if not is_table:
                        plain = (line.text for line in lines if not line.mark)
                        texts += [text.replace("\t", " ") for text in plain]
                times = min(number(cell, "number-columns-repeated", 1), _MAX_REPEATED)
                cells += [" ".join(texts)] * times
            if any(cells):
                yield Line("\t".join(cells).rstrip())
            yield from nested


def looks_of(*roots: Element | None) -> dict[str, str]:
    """What the styles of a document say of text and of lists, as `TextWalk` takes it."""
    found: dict[str, str] = {}
    for root in roots:
        for style in () if root is None else root.iter("{*}style", "{*}list-style"):
            name = attribute(style, "name")
            for part in style:
                kind = local_name(part)
                if kind == "list-level-style-number" and attribute(part, "num-format"):
                    found[f"list {name} {number(part, 'level', 1)}"] = "1"
                elif kind == "text-properties":
                    place = attribute(part, "text-position").split(" ")[0]
                    line = attribute(part, "text-line-through-style")
                    if place and place not in {"0%", "0"}:
                        found[name] = "_" if place == "sub" or place.startswith("-") else "^"
                    elif line not in {"", "none"}:
                        found[name] = "~"
    return found


def rows_of(table: Element) -> Iterator[Element]:
    for inner in table:
        name = local_name(inner)
        if name == "table-row":
            yield inner
        elif name in {"table-header-rows", "table-rows", "table-row-group"}:
            yield from rows_of(inner)
