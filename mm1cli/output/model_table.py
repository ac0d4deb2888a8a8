"""Tables of models: columns that give way where a terminal is too narrow, the last ones first."""

from collections.abc import Sequence
from dataclasses import dataclass

from mm1cli.output.text import (
    Channel,
    Style,
    cell_width,
    elide_middle,
    pad,
    safe_line,
    write_hanging,
)

_GAP = 2
_NARROWEST_NAME = 16


@dataclass(frozen=True, slots=True)
class Column:
    """`rank` 0 stays; of the others the highest goes first. Numbers stand to the right."""

    title: str
    cells: Sequence[str]
    rank: int = 0
    is_number: bool = False

    @property
    def width(self) -> int:
        return max(map(cell_width, (self.title, *self.cells)))


def write_table(
    name: Column, others: Sequence[Column], notes: Sequence[str], channel: Channel
) -> None:
    """A row for each model; `notes[i]`, if it is not empty, stands under row i.

    In a pipe everything is shown as it is; on a terminal columns go, and then the name is cut.
    """
    name = Column(name.title, [safe_line(cell) for cell in name.cells])
    shown = [
        Column(c.title, [safe_line(cell) for cell in c.cells], c.rank, c.is_number) for c in others
    ]
    width = name.width
    if channel.is_terminal:
        least = min(width, _NARROWEST_NAME)
        while shown and least + sum(c.width + _GAP for c in shown) > channel.columns:
            last = max(shown, key=lambda column: column.rank)
            if not last.rank:
                break
            shown.remove(last)
        room = channel.columns - sum(column.width + _GAP for column in shown)
        width = max(min(width, room), 2)

    def line(first: str, rest: Sequence[str]) -> str:
        cells = [pad(elide_middle(first, width), width)]
        for cell, column in zip(rest, shown, strict=True):
            space = " " * (column.width - cell_width(cell))
            cells.append(space + cell if column.is_number else cell + space)
        return (" " * _GAP).join(cells).rstrip() + "\n"

    channel.write(line(name.title, [column.title for column in shown]), Style.DIM)
    for index, first in enumerate(name.cells):
        channel.write(line(first, [column.cells[index] for column in shown]))
        if notes[index]:
            write_hanging(safe_line(notes[index]), channel, Style.DIM)


def gigabytes(num_bytes: int) -> str:
    """ "1.12 GB", "93 MB"; "" for nothing."""
    if not num_bytes:
        return ""
    return f"{num_bytes / 1e9:,.2f} GB" if num_bytes >= 10**9 else f"{num_bytes / 1e6:,.0f} MB"


def thousands(number: int) -> str:
    return f"{number:,}" if number else ""
