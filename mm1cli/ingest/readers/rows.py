"""Cells into blocks of rows: a line for each row, its cells separated by tabs.

Cells are sparse: a sheet that claims 16,384 columns and a million rows costs what its cells cost.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mm1cli.ingest.corpus import Block, Place
from mm1cli.ingest.readers.lines import one_paragraph, refuse_flood

_MAX_ROWS = 100
# More empty columns than this in one row, or beside its neighbours, begin another block.
_MAX_GAP = 64


def column_name(column: int) -> str:
    """1 is "A", 27 is "AA"."""
    name = ""
    while column > 0:
        column, letter = divmod(column - 1, 26)
        name = chr(ord("A") + letter) + name
    return name


def column_number(name: str) -> int:
    """The inverse; 0 for no name."""
    number = 0
    for letter in name.upper():
        number = number * 26 + ord(letter) - ord("A") + 1
    return number


@dataclass(slots=True)
class _Open:
    """Rows one below the other, in columns `left` to `right`."""

    first: int
    left: int
    right: int
    mark: str
    narrowest: int
    rows: list[Mapping[int, str]] = field(default_factory=list)

    def takes(self, row: int, left: int, right: int, mark: str) -> bool:
        width = max(self.right, right) - min(self.left, left) + 1
        narrowest = min(self.narrowest, right - left + 1)
        return (
            row == self.first + len(self.rows)
            and mark == self.mark
            and len(self.rows) < _MAX_ROWS
            and width <= narrowest + _MAX_GAP
        )

    def add(self, left: int, right: int, cells: Mapping[int, str]) -> None:
        self.left, self.right = min(self.left, left), max(self.right, right)
        self.narrowest = min(self.narrowest, right - left + 1)
        self.rows.append(cells)


class RowBlocks:
    """Collects the rows of one sheet, in any order; `blocks` gives what was collected."""

    def __init__(self, place: Place | None = None) -> None:
        self._place = place
        self._open: _Open | None = None
        self._blocks: list[Block] = []
        self._num_chars = 0

    def add(self, row: int, cells: Mapping[int, str], mark: str = "") -> None:
        """The cells of row `row` by column, both from 1. Raises ReadError: TOO_LARGE."""
        texts = {}
        for column in sorted(cells):
            # Nothing but the end of a cell may be a tab, or columns would shift.
            if text := one_paragraph(cells[column]).replace("\t", " ").strip():
                texts[column] = text
                self._num_chars += len(text)
        refuse_flood(self._num_chars)
        for part in _parts(texts):
            left, right = min(part), max(part)
            if self._open is None or not self._open.takes(row, left, right, mark):
                self._close()
                self._open = _Open(row, left, right, mark, right - left + 1)
            self._open.add(left, right, part)

    def blocks(self) -> list[Block]:
        self._close()
        return self._blocks

    def _close(self) -> None:
        if self._open is None:
            return
        area, self._open = self._open, None
        lines = (
            "\t".join(cells.get(column, "") for column in range(area.left, max(cells) + 1))
            for cells in area.rows
        )
        columns = (column_name(area.left), column_name(area.right))
        self._blocks.append(
            Block("\n".join(lines), "row", area.first, self._place, (), columns, area.mark)
        )


def _parts(cells: Mapping[int, str]) -> Iterator[dict[int, str]]:
    """The row, cut where many columns are empty. `cells` ascend."""
    part: dict[int, str] = {}
    last = 0
    for column, text in cells.items():
        if part and column - last > _MAX_GAP:
            yield part
            part = {}
        part[column] = text
        last = column
    if part:
        yield part
