"""The text of WordprocessingML in the order it stands in the XML.

What a reader of the page does not meet in the flow of the text (notes, comments, text boxes, hidden
runs) follows the paragraph it hangs on, with a mark.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from mm1cli.ingest.readers.docx_numbering import Numbering
from mm1cli.ingest.readers.lines import HeadingPath, Line
from mm1cli.ingest.readers.markup import (
    Element,
    alternative,
    attribute,
    child,
    children,
    is_maths,
    is_true,
    local_name,
    number,
)

_DELETED = frozenset({"del", "moveFrom"})
_INSERTED = frozenset({"ins", "moveTo"})
_NOT_TEXT = _DELETED | {"pPr", "rPr", "tblPr", "tcPr", "sdtPr", "instrText", "delText", "Fallback"}
_CHARACTERS = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
_REFERENCES = {
    "footnoteReference": "footnote",
    "endnoteReference": "endnote",
    "commentReference": "comment",
}
_MATHS = frozenset({"f", "rad", "sSup", "sSub", "sSubSup"})
_MAX_SPAN = 64
_MAX_NOTE_DEPTH = 8
_TITLE_LEVEL = -1
_NUM_LEVELS = 9


@dataclass(slots=True)
class Styles:
    """What the ids of styles say: the outline level of headings, and which text is hidden."""

    levels: dict[str, int] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    lists: dict[str, tuple[str, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, root: Element) -> "Styles":
        styles = {attribute(style, "styleId"): style for style in children(root, "style")}
        levels = {}
        hidden = set()
        lists = {}
        for name in styles:
            chain = list(_ancestry(name, styles))
            own = (_style_level(style) for style in chain)
            if (level := next((level for level in own if level is not None), None)) is not None:
                levels[name] = level
            if any(_is_hidden(style) for style in chain):
                hidden.add(name)
            properties = [found for style in chain if (found := child(style, "pPr")) is not None]
            listed = (_list_of(found) for found in properties)
            if (first := next((found for found in listed if found is not None), None)) is not None:
                lists[name] = first
        return cls(levels, frozenset(hidden), lists)


@dataclass(slots=True)
class Revisions:
    """Tracked changes met on the way."""

    num_inserted: int = 0
    num_deleted: int = 0


class TextWalk:
    """Lines in document order.

    `notes` are the elements of notes and comments by ("footnote", id); each is given once, and
    `left_notes` gives those that nothing refers to. `graphic` gives the lines of a chart or diagram
    by its relation id.
    """

    def __init__(
        self,
        notes: dict[tuple[str, str], Element],
        styles: Styles,
        graphic: Callable[[str], list[Line]],
        numbering: Numbering | None = None,
    ) -> None:
        self._numbering = numbering or Numbering()
        self._notes = notes
        self._styles = styles
        self._graphic = graphic
        self._path = HeadingPath()
        self._depth = 0
        self.revisions = Revisions()

    def body(self, root: Element) -> Iterator[Line]:
        """The lines of the main text, each with its heading path."""
        for element, lines in self._children(root):
            if (level := self._level(element)) is not None and lines and not lines[0].mark:
                self._path.enter(level, lines[0].text)
            for line in lines:
                yield replace(line, headings=self._path.now)

    def marked(self, root: Element, mark: str) -> list[Line]:
        """The lines of a header, a note or a text box; marks inside them stay."""
        lines = [line for _, found in self._children(root) for line in found]
        return [line if line.mark else Line(line.text, mark) for line in lines]

    def left_notes(self) -> Iterator[Line]:
        while self._notes:
            kind, key = next(iter(self._notes))
            yield from self._note(kind, key)

    def _children(self, element: Element) -> Iterator[tuple[Element, list[Line]]]:
        for inner in element:
            name = local_name(inner)
            if name == "p":
                text, after = self._paragraph(inner)
                yield inner, [Line(text), *after] if text else after
            elif name == "tbl":
                yield inner, list(self._table(inner))
            elif name == "AlternateContent":
                yield from self._children(alternative(inner))
            elif self._is_text(name):
                yield from self._children(inner)

    def _is_text(self, name: str) -> bool:
        self.revisions.num_deleted += name in _DELETED
        self.revisions.num_inserted += name in _INSERTED
        return name not in _NOT_TEXT

    def _paragraph(self, element: Element) -> tuple[str, list[Line]]:
        """Its text, and the lines of what is anchored in it."""
        pieces: list[str] = []
        hidden: list[str] = []
        after: list[Line] = []
        is_hidden = self._hides(child(element, "pPr"), "pStyle")
        self._collect(element, hidden if is_hidden else pieces, hidden, after)
        if concealed := "".join(hidden).strip():
            after.insert(0, Line(concealed, "hidden"))
        text = "".join(pieces).strip()
        label = self._label(element)
        return f"{label} {text}" if label and text else text, after

    def _label(self, paragraph: Element) -> str:
        """The number that Word shows before it."""
        properties = child(paragraph, "pPr")
        if properties is None:
            return ""
        style = child(properties, "pStyle")
        found = _list_of(properties)
        if found is None and style is not None:
            found = self._styles.lists.get(attribute(style, "val"))
        return "" if found is None else self._numbering.next(*found)

    def _collect(
        self, element: Element, pieces: list[str], hidden: list[str], after: list[Line]
    ) -> None:
        for inner in element:
            name = local_name(inner)
            if name == "t":
                pieces.append(inner.text or "")
            elif name in _CHARACTERS:
                pieces.append(_CHARACTERS[name])
            elif name == "r":
                to = hidden if self._hides(child(inner, "rPr"), "rStyle") else pieces
                self._collect(inner, to, hidden, after)
            elif name == "txbxContent":
                after += self.marked(inner, "text box")
            elif name in _REFERENCES:
                after += self._note(_REFERENCES[name], attribute(inner, "id"))
            elif name == "docPr":
                if text := attribute(inner, "descr"):
                    after.append(Line(text, "alt text"))
            elif name in _MATHS and is_maths(inner):
                pieces.append(_maths(name, self._arguments(inner, hidden, after)))
            elif name == "textpath":
                after.append(Line(attribute(inner, "string"), "text box"))
            elif name == "chart":
                after += self._graphic(attribute(inner, "id"))
            elif name == "relIds":
                after += self._graphic(attribute(inner, "dm"))
            elif name == "AlternateContent":
                self._collect(alternative(inner), pieces, hidden, after)
            elif self._is_text(name):
                self._collect(inner, pieces, hidden, after)

    def _arguments(self, formula: Element, hidden: list[str], after: list[Line]) -> dict[str, str]:
        found = {}
        for inner in formula:
            pieces: list[str] = []
            self._collect(inner, pieces, hidden, after)
            found[local_name(inner)] = "".join(pieces)
        return found

    def _note(self, kind: str, key: str) -> list[Line]:
        # Notes can refer to notes; those too deep down come with the ones left over.
        if self._depth >= _MAX_NOTE_DEPTH or (kind, key) not in self._notes:
            return []
        self._depth += 1
        note = self._notes.pop((kind, key))
        lines = self.marked(note, kind)
        self._depth -= 1
        if lines and (author := attribute(note, "author")):
            lines[0] = replace(lines[0], text=f"{author}: {lines[0].text}")
        return lines

    def _hides(self, properties: Element | None, style: str) -> bool:
        if properties is None:
            return False
        own = child(properties, "vanish")
        if own is not None:
            return is_true(attribute(own, "val"), default=True)
        named = child(properties, style)
        return named is not None and attribute(named, "val") in self._styles.hidden

    def _level(self, paragraph: Element) -> int | None:
        """The outline level, 0 for a chapter's; None for a paragraph that is no heading."""
        properties = child(paragraph, "pPr") if local_name(paragraph) == "p" else None
        if properties is None:
            return None
        if (own := child(properties, "outlineLvl")) is not None:
            level = number(own, "val", _NUM_LEVELS)
            return level if 0 <= level < _NUM_LEVELS else None
        style = child(properties, "pStyle")
        return None if style is None else self._styles.levels.get(attribute(style, "val"))

    def _table(self, table: Element) -> Iterator[Line]:
        for row in _inside(table, "tr"):
            if (changed := child(row, "trPr", "del")) is not None:
                self._is_text(local_name(changed))
                continue
            cells: list[str] = []
            nested: list[Line] = []
            for cell in _inside(row, "tc"):
                cells.append(self._cell(cell, nested))
                span = child(cell, "tcPr", "gridSpan")
                width = 1 if span is None else number(span, "val", 1)
                cells += [""] * min(width - 1, _MAX_SPAN)
            if any(cells):
                yield Line("\t".join(cells).rstrip())
            yield from nested

    def _cell(self, cell: Element, nested: list[Line]) -> str:
        texts = []
        for element, lines in self._children(cell):
            if local_name(element) == "tbl":
                nested += lines
                continue
            texts += [line.text.replace("\t", " ").strip() for line in lines if not line.mark]
            nested += [line for line in lines if line.mark]
        return " ".join(text for text in texts if text)


def _maths(name: str, parts: dict[str, str]) -> str:
    """Flat text would make 12 of one half, and 102 of ten squared."""
    base, upper, lower = (_grouped(parts.get(part, "")) for part in ("e", "sup", "sub"))
    if name == "f":
        return f"{_grouped(parts.get('num', ''))}/{_grouped(parts.get('den', ''))}"
    if name == "rad":
        degree = parts.get("deg", "")
        return f"{degree}√{base}"
    return base + (f"_{lower}" if lower else "") + (f"^{upper}" if upper else "")


def _grouped(text: str) -> str:
    text = text.strip()
    return text if len(text) < 2 or text.isalnum() else f"({text})"


def _inside(element: Element, wanted: str) -> Iterator[Element]:
    """The rows of a table or the cells of a row, also those in content controls."""
    for inner in element:
        name = local_name(inner)
        if name == wanted:
            yield inner
        elif name in {"sdt", "sdtContent", "ins", "moveTo", "customXml"}:
            yield from _inside(inner, wanted)


def _ancestry(name: str, styles: dict[str, Element]) -> Iterator[Element]:
    """The style and those it is based on."""
    seen = set()
    while name in styles and name not in seen:
        seen.add(name)
        yield styles[name]
        based_on = child(styles[name], "basedOn")
        name = "" if based_on is None else attribute(based_on, "val")


def _style_level(style: Element) -> int | None:
    if (outline := child(style, "pPr", "outlineLvl")) is not None:
        level = number(outline, "val", _NUM_LEVELS)
        return level if 0 <= level < _NUM_LEVELS else None
    name_element = child(style, "name")
    name = "" if name_element is None else attribute(name_element, "val").lower()
    if name.startswith("heading ") and name[8:] in set("123456789"):
        return int(name[8:]) - 1
    return _TITLE_LEVEL if name == "title" else None


def _list_of(properties: Element) -> tuple[str, int] | None:
    """The list that a paragraph or style belongs to, and its level in it."""
    listed = child(properties, "numPr")
    key = None if listed is None else child(listed, "numId")
    if listed is None or key is None:
        return None
    level = child(listed, "ilvl")
    return attribute(key, "val"), 0 if level is None else number(level, "val")


def _is_hidden(style: Element) -> bool:
    properties = child(style, "rPr")
    return properties is not None and _is_on(properties, "vanish")


def _is_on(properties: Element, name: str) -> bool:
    switch = child(properties, name)
    return switch is not None and is_true(attribute(switch, "val"), default=True)
