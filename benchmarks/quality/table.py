"""A table of results: conditions down, models and baselines across; text, Markdown, JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.quality.stats import Estimate

Cell = Estimate | str
NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Row:
    """One measure under one condition; `cells` are by the name of a model or baseline."""

    condition: Mapping[str, str]
    measure: str
    cells: dict[str, Cell] = field(default_factory=dict)


@dataclass(slots=True)
class Table:
    """`notes` say what the numbers rest on, what was left out and why."""

    name: str
    title: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def put(self, condition: Mapping[str, str], measure: str, column: str, cell: Cell) -> None:
        for row in self.rows:
            if row.condition == condition and row.measure == measure:
                row.cells[column] = cell
                return
        self.rows.append(Row(dict(condition), measure, {column: cell}))

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def grid(self) -> list[list[str]]:
        """The header and the rows as text."""
        conditions = list(dict.fromkeys(key for row in self.rows for key in row.condition))
        columns = list(dict.fromkeys(name for row in self.rows for name in row.cells))
        lines = [[*conditions, "measure", *columns]]
        for row in self.rows:
            shown = [row.condition.get(key, NOTHING) for key in conditions]
            cells = [str(row.cells.get(name, NOTHING)) for name in columns]
            lines.append([*shown, row.measure, *cells])
        return lines

    def as_text(self) -> str:
        lines = self.grid()
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        shown = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]
        return "\n".join([self.title, *shown, *self.notes])

    def as_markdown(self) -> str:
        notes = [f"- {note}" for note in self.notes]
        return "\n".join([f"## {self.title}", "", markdown_grid(self.grid()), "", *notes]).strip()

    def as_json(self) -> dict[str, object]:
        rows = [
            {
                **row.condition,
                "measure": row.measure,
                "results": {
                    name: cell.as_json() if isinstance(cell, Estimate) else cell
                    for name, cell in row.cells.items()
                },
            }
            for row in self.rows
        ]
        return {"table": self.name, "title": self.title, "rows": rows, "notes": self.notes}


def markdown_grid(lines: Sequence[Sequence[str]]) -> str:
    header, *rest = ["| " + " | ".join(map(_escape, line)) + " |" for line in lines]
    return "\n".join([header, "|" + "---|" * len(lines[0]), *rest])


def read_markdown_grid(text: str) -> list[list[str]]:
    """The inverse of `markdown_grid`."""
    header, _, *rest = text.splitlines()
    return [_cells(line) for line in [header, *rest]]


def _escape(cell: str) -> str:
    return " ".join(cell.split()).replace("\\", "\\\\").replace("|", "\\|")


def _cells(line: str) -> list[str]:
    cells, cell, escaped = [], "", False
    for char in line.removeprefix("| ").removesuffix(" |") + "\0":
        if escaped:
            cell, escaped = cell + char, False
        elif char == "\\":
            escaped = True
        elif char in "|\0":
            cells.append(cell.strip(" "))
            cell = ""
        else:
            cell += char
    return cells
