"""Cells into blocks of rows: a line for each row, its cells separated by tabs.

All blocks of a sheet begin at one left edge, so that a column is the same number of tabs away in
each of them. A blank row ends a table; where a table goes on in another block (it is long, or some
of its rows are hidden), its header is repeated above it. Cells are sparse: a sheet that claims
16,384 columns and a million rows costs what its cells cost.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from mm1cli.ingest.corpus import Block, Place
from mm1cli.ingest.readers.lines import one_paragraph, refuse_flood

REPEATED = "header row, repeated"
_MAX_ROWS = 100
# More empty columns than this between cells, in all rows, and what is right of them stands apart.
_MAX_GAP = 64
_MAX_HEADER_ROWS = 3
_MAX_SHORT_REPEATS = 50  # of headers above fewer rows than the next; a filter hides every other row
_FEW_ROWS = 20
_NO_COLUMN = 1 << 20
_EMPTY_PER_CELL = 8  # a row of its own with more is told by addresses
_NUMBER = re.compile(r"[-+(]?[^\w\s]{0,3}\d[\d.,' \u00a0]*(?:e[-+]?\d+)?\W{0,4}", re.IGNORECASE)
_YEAR = re.compile(r"(?:19|20)\d\d")


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


@dataclass(frozen=True, slots=True)
class _Run:
    """Cells of one row without a wide gap between them; `text` begins at column `left`."""

    row: int
    left: int
    right: int
    mark: str
    num_cells: int
    has_number: bool
    text: str


class RowBlocks:
    """Collects the rows of one sheet, in ascending order; `blocks` gives what was collected."""

    def __init__(self, place: Place | None = None) -> None:
        self._place = place
        self._runs: list[_Run] = []
        self._merged: dict[int, list[tuple[int, int]]] = {}
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
        self._runs += [_run(row, part, mark) for part in _parts(texts)]

    def merge(self, row: int, left: int, right: int) -> None:
        """Says that the cell of `row` at column `left` reaches to column `right`."""
        self._merged.setdefault(row, []).append((left, right))

    def blocks(self) -> list[Block]:
        found: list[Block] = []
        for cluster in _clusters(self._runs):
            edge = min(run.left for run in cluster)
            for rows in _tables(cluster):
                first, *beside = _side_by_side(list(self._with_names(rows)))
                found += self._table(first, edge)
                for table in beside:
                    found += self._table(table, table[0].left)
        self._runs.clear()
        return found

    def _with_names(self, table: Sequence[_Run]) -> Iterator[_Run]:
        """The rows; a name over several columns that have names below it stands over each."""
        num_names = len(_header(table)) if self._merged else 0
        for at, run in enumerate(table):
            if at + 1 >= num_names or run.row not in self._merged or run.num_cells < 2:
                yield run
                continue
            cells, below = _cells(run), _cells(table[at + 1])
            for left, right in self._merged[run.row]:
                columns = range(left, min(right, left + _MAX_GAP) + 1)
                if left in cells and all(column in below for column in columns):
                    cells |= dict.fromkeys(columns, cells[left])
            yield _run(run.row, dict(sorted(cells.items())), run.mark)

    def _table(self, table: Sequence[_Run], edge: int) -> Iterator[Block]:
        """Rows one below the other; a header that another block of theirs needs comes before it."""
        header = _header(table)
        repeats = 0
        at = 0
        for _, group in groupby(table, key=lambda run: run.mark):
            rows = list(group)
            for start in range(0, len(rows), _MAX_ROWS):
                part = rows[start : start + _MAX_ROWS]
                is_due = at >= len(header) > 0 and (
                    len(part) >= _FEW_ROWS or repeats < _MAX_SHORT_REPEATS
                )
                if is_due:
                    repeats += 1
                    yield self._block(header, edge, REPEATED)
                yield self._block(part, edge, part[0].mark)
                at += len(part)

    def _block(self, runs: Sequence[_Run], edge: int, mark: str) -> Block:
        left, right = edge, max(run.right for run in runs)
        lines = [_line(run, edge, is_alone=len(runs) == 1) for run in runs]
        if len(runs) == 1 and not lines[0].startswith("\t"):
            left = runs[0].left
        columns = (column_name(left), column_name(right))
        text = "\n".join(lines)
        return Block(text, "row", runs[0].row, self._place, (), columns, mark)


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


def _clusters(runs: Sequence[_Run]) -> Iterator[list[_Run]]:
    """The runs between one wide gap and the next, from left to right, each by its rows."""
    cluster: list[_Run] = []
    right = 0
    for run in sorted(runs, key=lambda run: run.left):
        if cluster and run.left - right > _MAX_GAP:
            yield sorted(cluster, key=lambda run: run.row)
            cluster = []
        cluster.append(run)
        right = max(right, run.right) if len(cluster) > 1 else run.right
    if cluster:
        yield sorted(cluster, key=lambda run: run.row)


def _tables(runs: Sequence[_Run]) -> Iterator[list[_Run]]:
    """Cut at blank rows, and where one row has runs that only others bridge."""
    table: list[_Run] = []
    for run in runs:
        if table and run.row != table[-1].row + 1:
            yield table
            table = []
        table.append(run)
    if table:
        yield table


def _side_by_side(table: Sequence[_Run]) -> Iterator[Sequence[_Run]]:
    """The tables that stand beside each other in the same rows, from left to right.

    A blank column alone parts nothing: many tables have one before their numbers. What is right of
    it is a table of its own where its rows begin with words and its header names what the other's
    does ("item, cost" twice).
    """
    header = _header(table) or table[:1]
    has_gap = any("\t\t" in run.text for run in header)
    for gap in _blank_columns(table) if has_gap else ():
        left, right = _cut(table, 0, gap), _cut(table, gap + 1, _NO_COLUMN)
        if _is_own_table(left, right, {run.row for run in header}):
            yield left
            yield from _side_by_side(right)
            return
    yield table


def _blank_columns(table: Sequence[_Run]) -> list[int]:
    """The columns inside the table that no row has."""
    taken = {run.left + at for run in table for at, text in enumerate(run.text.split("\t")) if text}
    return [column for column in range(min(taken), max(taken)) if column not in taken]


def _is_own_table(left: Sequence[_Run], right: Sequence[_Run], header: set[int]) -> bool:
    edge = min(run.left for run in right)
    words = [run for run in right if run.left == edge and not is_number(run.text.split("\t")[0])]
    if len(words) * 2 <= len(right):
        return False
    beside = {run.row: _names(run) for run in left if run.row in header}
    named = ((_names(run), beside[run.row]) for run in right if run.row in beside)
    return any(len(names & others) * 2 >= max(len(names), 3) for names, others in named)


def _names(run: _Run) -> set[str]:
    return {text.lower() for text in run.text.split("\t") if text and not is_number(text)}


def _cut(table: Sequence[_Run], left: int, end: int) -> list[_Run]:
    """What the rows have from column `left` up to `end`."""
    found = []
    for run in table:
        cells = {column: text for column, text in _cells(run).items() if left <= column < end}
        if cells:
            found.append(_run(run.row, cells, run.mark))
    return found


def _cells(run: _Run) -> dict[int, str]:
    return {at: text for at, text in enumerate(run.text.split("\t"), run.left) if text}


def _run(row: int, cells: Mapping[int, str], mark: str) -> _Run:
    left, right = min(cells), max(cells)
    text = "\t".join(cells.get(column, "") for column in range(left, right + 1))
    return _Run(row, left, right, mark, len(cells), any(map(is_number, cells.values())), text)


def _header(table: Sequence[_Run]) -> Sequence[_Run]:
    """The rows above the first that has a number; the first alone where none has one soon."""
    if len(table) < 2 or table[0].has_number:
        return ()
    for at, run in enumerate(table[: _MAX_HEADER_ROWS + 1]):
        if run.mark != table[0].mark:
            break
        if run.has_number:
            return table[:at]
    return table[:1]


def _line(run: _Run, edge: int, *, is_alone: bool) -> str:
    width = run.right - edge + 1
    is_sparse = is_alone and width > _EMPTY_PER_CELL * (run.num_cells + 1)
    if not is_sparse and run.left - edge <= _MAX_GAP:
        return "\t" * (run.left - edge) + run.text
    cells = enumerate(run.text.split("\t"), run.left)
    return "\t".join(f"{column_name(at)}{run.row}: {text}" for at, text in cells if text)


def is_number(text: str) -> bool:
    """Whether a cell is a value and no name; years are names of columns."""
    if not text[-1:].isdigit() and not any(map(str.isdigit, text)):
        return False
    return _YEAR.fullmatch(text) is None and _NUMBER.match(text) is not None
