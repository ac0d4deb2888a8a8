"""The text of WordprocessingML in the order it stands in the XML.

What a reader of the page does not meet in the flow of the text (notes, comments, text boxes, hidden
runs) follows the paragraph it hangs on, with a mark.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from mm1cli.ingest.readers.docx_ink import is_coloured_page, paints
from mm1cli.ingest.readers.docx_numbering import Numbering
from mm1cli.ingest.readers.docx_styles import NUM_LEVELS, Styles, is_on, list_of
from mm1cli.ingest.readers.lines import HeadingPath, Line, LinkList, as_heading, bullet, signed
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
    relation_id,
)
from mm1cli.ingest.readers.maths import omml
from mm1cli.ingest.readers.rows import is_number
from mm1cli.ingest.readers.symbols import in_font, symbol

_DELETED = frozenset({"del", "moveFrom"})
_INSERTED = frozenset({"ins", "moveTo"})
_NOT_TEXT = _DELETED | {
    *("pPr", "rPr", "tblPr", "tcPr", "sdtPr", "instrText", "delText", "Fallback"),
    "rt",  # how the words below it are said
}
_CHARACTERS = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
_REFERENCES = {
    "footnoteReference": "footnote",
    "endnoteReference": "endnote",
    "commentReference": "comment",
}
_RAISED = {"superscript": "^", "subscript": "_"}
_FORMULA_END = "\f"  # which XML cannot hold: one formula, one line
_LINK = re.compile(r'HYPERLINK\s+"([^"]{1,2000})"')
_MAX_SPAN = 64
_MAX_NOTE_DEPTH = 8


@dataclass(slots=True)
class Revisions:
    """Tracked changes met on the way."""

    num_inserted: int = 0
    num_deleted: int = 0


@dataclass(slots=True)
class _Unseen:
    """The text of one paragraph that nobody sees, by its mark."""

    style: str
    texts: dict[str, list[str]] = field(default_factory=lambda: {"hidden": [], "invisible": []})


@dataclass(slots=True)
class _Field:
    """What a program computes or links; its text begins at piece `start` of `pieces`."""

    instruction: str = ""
    pieces: list[str] | None = None
    start: int = 0


class TextWalk:
    """Lines in document order.

    `notes` are the elements of notes and comments by ("footnote", id); each is given once, and
    `left_notes` gives those that nothing refers to. `graphic` gives the lines of a chart or diagram
    by its relation id, `target` the address of a link by its.
    """

    def __init__(
        self,
        notes: dict[tuple[str, str], Element],
        styles: Styles,
        graphic: Callable[[str], list[Line]],
        numbering: Numbering | None = None,
        target: Callable[[str], str] = lambda _: "",
    ) -> None:
        self._target = target
        self._num_notes: dict[str, int] = {}
        self.links = LinkList()
        self._numbering = numbering or Numbering()
        self._notes = notes
        self._styles = styles
        self._graphic = graphic
        self._path = HeadingPath()
        self._depth = 0
        self._fields: list[_Field] = []
        self._font = ""  # of the run that is read
        self._num_grounds = 0  # coloured cells, pages and boxes around what is read
        self.revisions = Revisions()

    def body(self, root: Element) -> Iterator[Line]:
        """The lines of the main text, each with its heading path."""
        self._num_grounds += is_coloured_page(root)
        for element, lines in self._children(root):
            if (level := self._level(element)) is not None and lines and not lines[0].mark:
                self._path.enter(level, lines[0].text)
                lines[0] = replace(lines[0], text=as_heading(lines[0].text, level))
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
        drop_cap = ""
        for inner in element:
            name = local_name(inner)
            if name == "p":
                text, after = self._paragraph(inner)
                if _is_drop_cap(inner) and text and not after:
                    drop_cap += text
                    continue
                text, drop_cap = f"{drop_cap}{text}", ""
                formulas = (one.rstrip() for one in text.split(_FORMULA_END))
                yield inner, [*(Line(one) for one in formulas if one), *after]
            elif name == "tbl":
                yield inner, list(self._table(inner))
            elif name == "AlternateContent":
                yield from self._children(alternative(inner))
            elif self._is_text(name):
                yield from self._children(inner)
        if drop_cap:
            yield element, [Line(drop_cap)]

    def _is_text(self, name: str) -> bool:
        self.revisions.num_deleted += name in _DELETED
        self.revisions.num_inserted += name in _INSERTED
        return name not in _NOT_TEXT

    def _paragraph(self, element: Element) -> tuple[str, list[Line]]:
        """Its text, and the lines of what is anchored in it."""
        pieces: list[str] = []
        after: list[Line] = []
        properties = child(element, "pPr")
        named = None if properties is None else child(properties, "pStyle")
        style = "" if named is None else attribute(named, "val")
        unseen = _Unseen(style)
        self._num_grounds += (is_coloured := paints(properties))
        to = unseen.texts["hidden"] if style in self._styles.hidden else pieces
        self._collect(element, to, unseen, after)
        self._num_grounds -= is_coloured
        concealed = ((mark, "".join(texts).strip()) for mark, texts in unseen.texts.items())
        after = [*(Line(text, mark) for mark, text in concealed if text), *after]
        text = "".join(pieces).strip()
        label = self._label(element)
        return f"{label}{text}" if text else text, after

    def _label(self, paragraph: Element) -> str:
        """The number or sign of a list that Word shows before it, with its level."""
        properties = child(paragraph, "pPr")
        if properties is None:
            return ""
        style = child(properties, "pStyle")
        found = list_of(properties)
        if found is None and style is not None:
            found = self._styles.lists.get(attribute(style, "val"))
        if found is None:
            return ""
        number = self._numbering.next(*found)
        if number is None or number:
            return f"{number} " if number else ""
        named = "" if style is None else attribute(style, "val")
        return bullet(max(found[1], self._styles.depths.get(named, 0)))

    def _collect(
        self, element: Element, pieces: list[str], unseen: _Unseen, after: list[Line]
    ) -> None:
        name = ""
        for inner in element:
            was, name = name, local_name(inner)
            if name == "t":
                pieces.append(in_font(inner.text or "", self._font))
            elif name in _CHARACTERS:
                pieces.append(_CHARACTERS[name])
            elif name == "sym":
                code = attribute(inner, "char")
                pieces.append(symbol(attribute(inner, "font"), _hexadecimal(code)))
            elif name == "fldChar":
                self._read_field(attribute(inner, "fldCharType"), pieces)
                self._collect(inner, pieces, unseen, after)
            elif name == "instrText" and self._fields:
                self._fields[-1].instruction += inner.text or ""
            elif name == "ffData":
                pieces.append(_form_value(inner))
            elif name == "r":
                is_on_ground = self._num_grounds > 0
                mark = self._styles.mark(
                    child(inner, "rPr"), unseen.style, is_on_ground=is_on_ground
                )
                to = unseen.texts[mark] if mark and pieces is not unseen.texts["hidden"] else pieces
                self._run(inner, to, unseen, after)
            elif name == "txbxContent":
                # The colour of its ground is that of the shape around it.
                self._num_grounds += 1
                after += self.marked(inner, "text box")
                self._num_grounds -= 1
            elif name in _REFERENCES:
                kind = _REFERENCES[name]
                if lines := self._note(kind, attribute(inner, "id")):
                    pieces.append(f"[{lines[0].mark}]")
                    after += lines
            elif name == "docPr":
                if text := attribute(inner, "descr"):
                    after.append(Line(text, "alt text"))
            elif name == "oMathPara" and is_maths(inner):
                formulas = (omml(one) for one in inner if local_name(one) == "oMath")
                pieces.append(_FORMULA_END.join(["", *formulas, ""]))
            elif name == "oMath" and is_maths(inner):
                is_next = was == "oMath"
                pieces.append(f"{_FORMULA_END if is_next else ''}{omml(inner)}")
            elif name == "hyperlink":
                start = len(pieces)
                self._collect(inner, pieces, unseen, after)
                self.links.add("".join(pieces[start:]), self._target(relation_id(inner)))
            elif name == "textpath":
                after.append(Line(attribute(inner, "string"), "text box"))
            elif name == "chart":
                after += self._graphic(attribute(inner, "id"))
            elif name == "relIds":
                after += self._graphic(attribute(inner, "dm"))
            elif name == "AlternateContent":
                self._collect(alternative(inner), pieces, unseen, after)
            elif self._is_text(name):
                self._collect(inner, pieces, unseen, after)

    def _read_field(self, part: str, pieces: list[str]) -> None:
        """Where a field begins, where its text does, and where it ends: links are fields, too."""
        if part == "begin":
            self._fields.append(_Field())
        elif part == "separate" and self._fields:
            self._fields[-1].pieces, self._fields[-1].start = pieces, len(pieces)
        elif part == "end" and self._fields:
            field = self._fields.pop()
            if field.pieces is pieces and (found := _LINK.search(field.instruction)):
                self.links.add("".join(pieces[field.start :]), found[1])

    def _run(self, run: Element, pieces: list[str], unseen: _Unseen, after: list[Line]) -> None:
        """Text of one look: raised, lowered and struck letters have signs around them."""
        properties = child(run, "rPr")
        fonts = None if properties is None else child(properties, "rFonts")
        self._font = "" if fonts is None else attribute(fonts, "ascii")
        place = None if properties is None else child(properties, "vertAlign")
        sign = "" if place is None else _RAISED.get(attribute(place, "val"), "")
        if not sign and properties is not None:
            is_struck = is_on(properties, "strike") or is_on(properties, "dstrike")
            sign = "~" if is_struck else ""
        if not sign:
            self._collect(run, pieces, unseen, after)
            return
        own: list[str] = []
        self._collect(run, own, unseen, after)
        text = "".join(own)
        is_note = text.startswith("[")  # its sign is raised anyway
        pieces.append(text if is_note else signed(text, sign, pieces))

    def _note(self, kind: str, key: str) -> list[Line]:
        # Notes can refer to notes; those too deep down come with the ones left over.
        if self._depth >= _MAX_NOTE_DEPTH or (kind, key) not in self._notes:
            return []
        self._depth += 1
        note = self._notes.pop((kind, key))
        number = self._num_notes[kind] = self._num_notes.get(kind, 0) + 1
        lines = self.marked(note, f"{kind} {number}")
        self._depth -= 1
        if lines and (author := attribute(note, "author")):
            lines[0] = replace(lines[0], text=f"{author}: {lines[0].text}")
        return lines

    def _level(self, paragraph: Element) -> int | None:
        """The outline level, 0 for a chapter's; None for a paragraph that is no heading."""
        properties = child(paragraph, "pPr") if local_name(paragraph) == "p" else None
        if properties is None:
            return None
        if (own := child(properties, "outlineLvl")) is not None:
            level = number(own, "val", NUM_LEVELS)
            return level if 0 <= level < NUM_LEVELS else None
        style = child(properties, "pStyle")
        return None if style is None else self._styles.levels.get(attribute(style, "val"))

    def _table(self, table: Element) -> Iterator[Line]:
        style = child(table, "tblPr", "tblStyle")
        self._num_grounds += (is_coloured := self._styles.paints(style))
        rows: list[tuple[list[str], list[Line]]] = []
        spans: list[tuple[int, int]] = []  # of the first row
        for row in _inside(table, "tr"):
            if (changed := child(row, "trPr", "del")) is not None:
                self._is_text(local_name(changed))
                continue
            left = child(row, "trPr", "gridBefore")
            cells = [""] * (0 if left is None else min(number(left, "val"), _MAX_SPAN))
            nested: list[Line] = []
            for cell in _inside(row, "tc"):
                cells.append(self._cell(cell, nested))
                span = child(cell, "tcPr", "gridSpan")
                width = 1 if span is None else number(span, "val", 1)
                if not rows and width > 1:
                    spans.append((len(cells) - 1, min(width, _MAX_SPAN)))
                cells += [""] * min(width - 1, _MAX_SPAN)
            rows.append((cells, nested))
        if len(rows) > 1:
            _stand_over(rows[0][0], spans, rows[1][0])
        for cells, nested in rows:
            if any(cells):
                yield Line("\t".join(cells).rstrip())
            yield from nested
        self._num_grounds -= is_coloured

    def _cell(self, cell: Element, nested: list[Line]) -> str:
        texts = []
        self._num_grounds += (is_coloured := paints(child(cell, "tcPr")))
        for element, lines in self._children(cell):
            if local_name(element) == "tbl":
                nested += lines
                continue
            texts += [line.text.replace("\t", " ").strip() for line in lines if not line.mark]
            nested += [line for line in lines if line.mark]
        self._num_grounds -= is_coloured
        return " ".join(text for text in texts if text)


def _stand_over(upper: list[str], spans: Sequence[tuple[int, int]], lower: Sequence[str]) -> None:
    """Puts a name over several columns over each that has a name below it."""
    if sum(map(bool, upper)) < 2 or any(map(is_number, (*upper, *lower))):
        return
    for at, width in spans:
        if len(lower) >= at + width and all(lower[at : at + width]):
            upper[at : at + width] = [upper[at]] * width


def _is_drop_cap(paragraph: Element) -> bool:
    """Whether it is the large first letter of the next one."""
    frame = child(paragraph, "pPr", "framePr")
    return frame is not None and attribute(frame, "dropCap") in {"drop", "margin"}


def _form_value(field: Element) -> str:
    """What a box to tick or to choose from shows; other fields have their value as text."""
    if (box := child(field, "checkBox")) is not None:
        state = child(box, "checked")
        state = child(box, "default") if state is None else state
        is_ticked = state is not None and is_true(attribute(state, "val"), default=True)
        return "☒" if is_ticked else "☐"
    if (choice := child(field, "ddList")) is not None:
        entries = [attribute(entry, "val") for entry in children(choice, "listEntry")]
        chosen = child(choice, "result")
        at = 0 if chosen is None else number(chosen, "val")
        return entries[at] if 0 <= at < len(entries) else ""
    return ""


def _hexadecimal(text: str) -> int:
    try:
        return int(text[:6], 16)
    except ValueError:
        return 0


def _inside(element: Element, wanted: str) -> Iterator[Element]:
    """The rows of a table or the cells of a row, also those in content controls."""
    for inner in element:
        name = local_name(inner)
        if name == wanted:
            yield inner
        elif name in {"sdt", "sdtContent", "ins", "moveTo", "customXml"}:
            yield from _inside(inner, wanted)
