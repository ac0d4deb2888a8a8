"""XLSX: the sheets of a workbook as blocks of rows, read as a stream.

Formulas give the value that was stored with them. The sheet's own dimension is not believed.
"""

import re
from collections.abc import Iterator, Mapping

from mm1cli.ingest.corpus import Block, Damaged, Place, Reason
from mm1cli.ingest.readers.drawing import graphic_lines, paragraphs
from mm1cli.ingest.readers.lines import (
    Line,
    LinkList,
    hidden_warnings,
    lines_to_blocks,
    one_paragraph,
    picture_warnings,
)
from mm1cli.ingest.readers.markup import (
    Element,
    attribute,
    child,
    children,
    descendants,
    is_true,
    local_name,
    lxml_version,
    number,
    relation_id,
    stream_xml,
)
from mm1cli.ingest.readers.package import OLE_MAGIC, Package, Relation
from mm1cli.ingest.readers.reader import MIB, Member, Reader, ReadError, Reading
from mm1cli.ingest.readers.rows import RowBlocks, column_name, column_number
from mm1cli.ingest.readers.xls import read_xls
from mm1cli.ingest.readers.xlsx_values import Styles, rich_text, shared_strings

_REFERENCE = re.compile(r"\$?([A-Za-z]{1,3})\$?([0-9]{1,7})")
_RANGE = re.compile(r"([A-Za-z]{1,3})([0-9]{1,7}):([A-Za-z]{1,3})[0-9]{1,7}")
_MAX_MERGED = 10_000
_OLD_WORKBOOK = "Workbook".encode("utf-16-le")
_MAX_COLUMNS = 16_384
_HIDDEN = frozenset({"hidden", "veryhidden"})


def read_xlsx(data: bytes) -> Reading:
    """Blocks of rows with their columns, sheet after sheet; then what lies on the cells.

    A merged cell has its text once, in its first row and column. Raises ReadError: EMPTY,
    ENCRYPTED, TOO_LARGE, UNREADABLE, UNSUPPORTED.
    """
    if data.startswith(OLE_MAGIC) and _OLD_WORKBOOK in data:
        return read_xls(data)
    package = Package(data)
    if package.main_part().lower().endswith(".bin"):
        return read_xls(data)
    workbook = _Workbook(package)
    blocks: list[Block] = []
    for index, entry in enumerate(workbook.entries):
        blocks += workbook.sheet(index, entry)
    links = workbook.links.lines([block.text for block in blocks])
    blocks += lines_to_blocks(links, "line")
    warnings = (*package.warnings, *workbook.warnings)
    members, lost = workbook.members()
    warnings = (*warnings, *lost)
    if not blocks and not members:
        if warnings:
            raise ReadError(Reason.UNREADABLE, warnings[0])
        raise ReadError(Reason.EMPTY)
    pictures = picture_warnings(len(workbook.pictures))
    warnings = (*warnings, *hidden_warnings(blocks), *pictures)
    return Reading(tuple(blocks), warnings, lxml_version(), members=members)


class _Workbook:
    def __init__(self, package: Package) -> None:
        self._package = package
        name = package.main_part()
        root = package.xml(name)
        if local_name(root) != "workbook":
            raise ReadError(Reason.UNREADABLE, f"no workbook, but a {local_name(root)}")
        self._relations = package.relations(name)
        styles = package.related(name, "styles")
        self.warnings: list[str] = []
        self._styles = Styles(package.secondary(styles[0], self.warnings) if styles else None)
        self._strings = shared_strings(package, package.related(name, "sharedStrings"))
        properties = child(root, "workbookPr")
        self._since_1904 = properties is not None and is_true(attribute(properties, "date1904"))
        sheets = child(root, "sheets")
        self.entries = [] if sheets is None else list(children(sheets, "sheet"))
        self._embedded: dict[str, None] = {}
        self.pictures: set[str] = set()
        self.links = LinkList()
        self._people = _people(package, name)

    def sheet(self, index: int, entry: Element) -> list[Block]:
        label = one_paragraph(attribute(entry, "name"))
        place = Place("sheet", index, label)
        mark = "hidden sheet" if attribute(entry, "state").lower() in _HIDDEN else ""
        relation = self._relations.get(relation_id(entry))
        if relation is None or relation.target not in self._package:
            self.warnings.append(Damaged(f"sheet {label}: the part is missing"))
            return []
        rows = _Sheet(self._strings, self._styles, self._since_1904)
        collected = RowBlocks(place)
        try:
            for row, cells, is_hidden in rows.read(self._package, relation.target):
                collected.add(row, cells, mark or ("hidden row" if is_hidden else ""))
        except ReadError as error:
            if error.reason is not Reason.UNREADABLE:
                raise
            self.warnings.append(
                Damaged(f"sheet {label} cannot be read to its end: {error.detail}")
            )
        for merged in rows.merged[:_MAX_MERGED]:
            if corners := _RANGE.fullmatch(merged):
                left, right = column_number(corners[1]), column_number(corners[3])
                if left < right:
                    collected.merge(int(corners[2]), left, right)
        blocks = collected.blocks()
        targets = self._package.links(relation.target)
        for cell, key in rows.links:
            self.links.add(f"{label}!{cell}", targets.get(key, ""))
        self.warnings += [f"sheet {label}: {warning}" for warning in rows.warnings()]
        try:
            for row, column, line in self._over(relation.target):
                over = RowBlocks(place)
                over.add(row, {column: line.text}, mark or line.mark)
                blocks += over.blocks()
        except ReadError as error:
            if error.reason is not Reason.UNREADABLE:
                raise
            self.warnings.append(Damaged(f"sheet {label}: comments or drawings: {error.detail}"))
        return blocks

    def members(self) -> tuple[tuple[Member, ...], list[str]]:
        return self._package.embedded(self._embedded)

    def _over(self, part: str) -> Iterator[tuple[int, int, Line]]:
        """Comments, text boxes and charts of a sheet, at their cells."""
        relations = list(self._package.relations(part).values())
        in_threads: set[tuple[int, int]] = set()
        # Threads first: each is repeated as a note for programs that know no threads.
        for relation in sorted(relations, key=lambda one: one.role != "threadedComment"):
            if relation.target not in self._package:
                continue
            if relation.is_embedded:
                self._embedded[relation.target] = None
            elif relation.role == "threadedComment":
                found = list(_comments(self._package.xml(relation.target), self._people))
                in_threads |= {(row, column) for row, column, _ in found}
                yield from found
            elif relation.role == "comments":
                for row, column, line in _comments(self._package.xml(relation.target), {}):
                    if (row, column) not in in_threads:
                        yield row, column, line
            elif relation.role == "drawing":
                related = self._package.relations(relation.target)
                root = self._package.xml(relation.target)
                self.pictures |= {one.target for one in related.values() if one.role == "image"}
                yield from _drawings(root, related, self._package)


class _Sheet:
    """One pass over a sheet's rows."""

    def __init__(self, strings: list[str], styles: Styles, since_1904: bool) -> None:
        self._strings = strings
        self._styles = styles
        self._since_1904 = since_1904
        self._num_formulas = 0
        self._hidden_columns: list[str] = []
        self.merged: list[str] = []  # ranges
        self.links: list[tuple[str, str]] = []  # the name of a cell, and a relation's id

    def read(self, package: Package, part: str) -> Iterator[tuple[int, dict[int, str], bool]]:
        """Row number, cells by column, and whether the row is hidden."""
        row = 0
        for element in stream_xml(package.stream(part), "row", "col", "hyperlink", "mergeCell"):
            if local_name(element) == "mergeCell":
                self.merged.append(attribute(element, "ref"))
                continue
            if local_name(element) == "hyperlink":
                self.links.append((attribute(element, "ref"), relation_id(element)))
                continue
            if local_name(element) == "col":
                if is_true(attribute(element, "hidden")):
                    names = (column_name(number(element, side)) for side in ("min", "max"))
                    self._hidden_columns.append("-".join(dict.fromkeys(names)))
                continue
            row = number(element, "r", row + 1)
            yield row, self._cells(element), is_true(attribute(element, "hidden"))

    def warnings(self) -> Iterator[str]:
        if self._num_formulas:
            yield f"{self._num_formulas} formulas have no stored value and are given as formulas"
        if self._hidden_columns:
            yield f"hidden columns are read: {', '.join(self._hidden_columns[:20])}"

    def _cells(self, row: Element) -> dict[int, str]:
        cells = {}
        column = 0
        for cell in children(row, "c"):
            position = _REFERENCE.fullmatch(attribute(cell, "r"))
            column = column_number(position[1]) if position else column + 1
            if column <= _MAX_COLUMNS and (text := self._value(cell)):
                cells[column] = self._styles.signed(text, number(cell, "s"))
        return cells

    def _value(self, cell: Element) -> str:
        kind = attribute(cell, "t")
        if kind == "inlineStr":
            inline = child(cell, "is")
            return "" if inline is None else rich_text(inline)
        stored = child(cell, "v")
        value = "" if stored is None else stored.text or ""
        if not value:
            formula = child(cell, "f")
            if formula is None or kind == "str":
                return ""
            self._num_formulas += 1
            return f"={formula.text or ''}"
        if kind == "s":
            index = int(value) if value.isdecimal() and len(value) < 12 else -1
            return self._strings[index] if 0 <= index < len(self._strings) else ""
        if kind == "b":
            return "TRUE" if is_true(value) else "FALSE"
        if kind in {"str", "e", "d"}:
            return value
        return self._styles.shown(value, number(cell, "s"), since_1904=self._since_1904)


def _people(package: Package, name: str) -> dict[str, str]:
    """Who writes in threads, by id; nobody where the part cannot be read."""
    parts = (package.secondary(part, []) for part in package.related(name, "person"))
    return {
        attribute(person, "id"): attribute(person, "displayName")
        for root in parts
        if root is not None
        for person in root
    }


def _comments(root: Element, people: Mapping[str, str]) -> Iterator[tuple[int, int, Line]]:
    listed = child(root, "authors")
    authors = [] if listed is None else [author.text or "" for author in listed]
    for name in ("comment", "threadedComment"):
        for comment in descendants(root, name):
            position = _REFERENCE.fullmatch(attribute(comment, "ref"))
            text = child(comment, "text")
            if position is None or text is None:
                continue
            words = rich_text(text) or text.text or ""
            index = number(comment, "authorId", -1)
            author = authors[index] if 0 <= index < len(authors) else ""
            author = people.get(attribute(comment, "personId"), author)
            if author and not words.startswith(author):
                words = f"{author}: {words}"
            yield int(position[2]), column_number(position[1]), Line(words, "comment")


def _drawings(
    root: Element, relations: dict[str, Relation], package: Package
) -> Iterator[tuple[int, int, Line]]:
    for anchor in root:
        row = column = 1
        if (corner := child(anchor, "from")) is not None:
            row, column = _count(corner, "row") + 1, _count(corner, "col") + 1
        for body in descendants(anchor, "txBody"):
            yield from ((row, column, Line(text, "text box")) for text in paragraphs(body))
        graphics = [relation_id(chart) for chart in descendants(anchor, "chart")]
        graphics += [attribute(diagram, "dm") for diagram in descendants(anchor, "relIds")]
        for key in graphics:
            if (relation := relations.get(key)) is not None:
                lines = graphic_lines(package, relation.target)
                yield from ((row, column, line) for line in lines)
        for properties in descendants(anchor, "cNvPr"):
            if text := attribute(properties, "descr"):
                yield row, column, Line(text, "alt text")


def _count(corner: Element, name: str) -> int:
    element = child(corner, name)
    text = "" if element is None else (element.text or "").strip()
    return int(text) if text.isdecimal() and len(text) < 8 else 0


XLSX = Reader(
    name="xlsx",
    version=5,
    kinds={".xlsx": "xlsx", ".xlsm": "xlsx", ".xltx": "xlsx", ".xltm": "xlsx"},
    max_bytes=256 * MIB,
    sandboxed=True,
    read=read_xlsx,
)
