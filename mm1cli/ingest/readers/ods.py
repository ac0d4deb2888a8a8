"""The sheets of an OpenDocument spreadsheet as blocks of rows, read as a stream."""

import re

from mm1cli.ingest.corpus import Block, Place
from mm1cli.ingest.readers.inflation import Stream
from mm1cli.ingest.readers.lines import Line, one_paragraph
from mm1cli.ingest.readers.markup import (
    Element,
    attribute,
    children,
    local_name,
    number,
    stream_xml,
)
from mm1cli.ingest.readers.number_format import has_same_digits
from mm1cli.ingest.readers.odf_text import TextWalk
from mm1cli.ingest.readers.rows import RowBlocks, column_name

_DURATION = re.compile(r"(-?)PT(\d{1,9})H(\d{1,2})M(\d{1,2})(?:[.,]\d*)?S")
_VALUES = {
    "float": "value",
    "percentage": "value",
    "currency": "value",
    "date": "date-value",
    "boolean": "boolean-value",
}
_HIDDEN = frozenset({"collapse", "filter"})
# Sheets fill themselves up with copies of an empty row; copies of a full one are rare.
_MAX_COPIES = 1000
_MAX_COLUMNS = 16_384


class Spreadsheet:
    """Collects one pass over content.xml."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.warnings: list[str] = []
        self._text = TextWalk()
        self._hidden_styles: set[str] = set()
        self._table: Element | None = None
        self._index = -1
        self._row = 0
        self._rows = RowBlocks()
        self._over: list[tuple[int, int, Line]] = []
        self._hidden_columns = 0
        self._place = Place("sheet", 0)
        self._mark = ""

    def read(self, stream: Stream) -> None:
        """Raises ReadError; what was read up to then is kept."""
        try:
            for element in stream_xml(stream, "style", "table-row", "table-column", "shapes"):
                name = local_name(element)
                if name == "style":
                    self._read_style(element)
                    continue
                table = _table_of(element)
                if table is None:
                    continue
                if table is not self._table:
                    self._begin(table)
                if name == "table-column":
                    self._hidden_columns += attribute(element, "visibility") in _HIDDEN
                elif name == "shapes":
                    self._over += [(1, 1, line) for line in self._text.marked(element, "text box")]
                else:
                    self._read_row(element)
        finally:
            self._end()

    def _read_style(self, style: Element) -> None:
        shown = (attribute(inner, "display") for inner in children(style, "table-properties"))
        if "false" in shown:
            self._hidden_styles.add(attribute(style, "name"))

    def _begin(self, table: Element) -> None:
        self._end()
        self._table = table
        self._index += 1
        self._row = 0
        self._place = Place("sheet", self._index, one_paragraph(attribute(table, "name")))
        self._rows = RowBlocks(self._place)
        is_hidden = attribute(table, "style-name") in self._hidden_styles
        self._mark = "hidden sheet" if is_hidden else ""

    def _end(self) -> None:
        if self._table is None:
            return
        self._table = None
        self.blocks += self._rows.blocks()
        for row, column, line in self._over:
            cell = RowBlocks(self._place)
            cell.add(row, {column: line.text}, self._mark or line.mark)
            self.blocks += cell.blocks()
        self._over.clear()
        if self._hidden_columns:
            self.warnings.append(f"sheet {self._place.label}: hidden columns are read")
        self._hidden_columns = 0

    def _read_row(self, row: Element) -> None:
        first = self._row + 1
        count = max(1, number(row, "number-rows-repeated", 1))
        self._row += count
        cells = self._cells(row, first)
        if not cells:
            return
        mark = self._mark or ("hidden row" if attribute(row, "visibility") in _HIDDEN else "")
        if count > _MAX_COPIES:
            name = self._place.label
            self.warnings.append(f"sheet {name}: rows {first} to {self._row} are alike, read once")
            count = 1
        for copy in range(count):
            self._rows.add(first + copy, cells, mark)

    def _cells(self, row: Element, row_number: int) -> dict[int, str]:
        cells: dict[int, str] = {}
        column = 1
        for cell in row:
            if local_name(cell) not in {"table-cell", "covered-table-cell"}:
                continue
            count = max(1, number(cell, "number-columns-repeated", 1))
            if text := self._value(cell, row_number, column):
                if count > _MAX_COPIES:
                    span = f"{column_name(column)}{row_number}"
                    label = self._place.label
                    self.warnings.append(f"sheet {label}: {count} cells like {span}, read once")
                    cells[column] = text
                else:
                    cells.update(dict.fromkeys(range(column, column + count), text))
            column = min(column + count, _MAX_COLUMNS)
        return cells

    def _value(self, cell: Element, row: int, column: int) -> str:
        lines = list(self._text.marked(cell, ""))
        self._over += [(row, column, line) for line in lines if line.mark]
        kind = attribute(cell, "value-type")
        shown = " ".join(line.text for line in lines if not line.mark)
        if kind == "boolean":
            return attribute(cell, "boolean-value").upper()
        if kind == "time" and (parts := _DURATION.fullmatch(attribute(cell, "time-value"))):
            sign, hours, minutes, seconds = parts.groups()
            return f"{sign}{int(hours):02}:{int(minutes):02}:{int(seconds):02}"
        stored = attribute(cell, _VALUES[kind]) if kind in _VALUES else ""
        return _with_stored(shown, stored)


def _with_stored(shown: str, stored: str) -> str:
    """What the cell shows, and in brackets what is stored, if the display does not tell it."""
    if not shown or not stored:
        return shown or stored
    is_told = stored in shown or (stored[-1:].isdigit() and has_same_digits(shown, stored))
    return shown if is_told else f"{shown} [{stored}]"


def _table_of(element: Element) -> Element | None:
    """The sheet, not a table that a cell or a chart holds."""
    up = element.getparent()
    found = None
    while up is not None:
        if local_name(up) == "table":
            found = up
        up = up.getparent()
    return found
