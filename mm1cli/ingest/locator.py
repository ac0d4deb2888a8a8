"""Where text stands: a place in the file, and lines, paragraphs or rows counted inside it."""

from dataclasses import dataclass
from typing import Literal

Unit = Literal["line", "paragraph", "row"]
PlaceKind = Literal["page", "slide", "sheet", "cell", "chapter", "part", "member"]


@dataclass(frozen=True, slots=True)
class Place:
    """A part of a file that has a number or a name of its own.

    `index` is 0-based in the file. `label` is what is printed on a page, the name of a sheet, the
    title of a chapter; "" where there is none.
    """

    kind: PlaceKind
    index: int
    label: str = ""

    def __str__(self) -> str:
        number = self.index + 1
        match self.kind:
            case "page":
                return f"p. {self.label or number}"
            case "sheet":
                return self.label or f"sheet {number}"
            case "chapter":
                return f"ch. “{self.label}”" if self.label else f"ch. {number}"
            case "slide" | "cell":
                return f"{self.kind} {number}"
            case _:
                named = f" ({self.label})" if self.label else ""
                return f"{self.kind} {number}{named}"


@dataclass(frozen=True, slots=True)
class Locator:
    """Where a piece of text stands. Lines, paragraphs and rows count from 1, `last` inclusive.

    `source_start` and `source_end` are offsets in the file's decoded text, None where the format
    has none; the other fields are those of the block the text is from.
    """

    unit: Unit
    first: int
    last: int
    place: Place | None = None
    headings: tuple[str, ...] = ()
    columns: tuple[str, str] | None = None
    mark: str = ""
    source_start: int | None = None
    source_end: int | None = None

    def __str__(self) -> str:
        return f"{self._where()} ({self.mark})" if self.mark else self._where()

    def _where(self) -> str:
        if self.place is None:
            return self._units()
        if self.place.kind in {"page", "slide"}:
            return str(self.place)
        if self.place.kind == "sheet":
            return f"{_sheet_name(str(self.place))}!{self._units()}"
        return f"{self.place}, {self._units()}"

    def _units(self) -> str:
        if self.unit == "row":
            return self._rows()
        one = self.first == self.last
        if self.unit == "paragraph":
            return f"¶ {self.first}" if one else f"¶ {self.first}-{self.last}"
        return f"line {self.first}" if one else f"lines {self.first}-{self.last}"

    def _rows(self) -> str:
        if self.columns is not None:
            first, last = self.columns
            start, end = f"{first}{self.first}", f"{last}{self.last}"
            return start if start == end else f"{start}:{end}"
        if self.place is not None:
            return f"{self.first}:{self.last}"
        return f"row {self.first}" if self.first == self.last else f"rows {self.first}-{self.last}"


def _sheet_name(name: str) -> str:
    """As a spreadsheet writes it in a formula: quoted unless it is one word."""
    return name if name.replace("_", "").isalnum() else "'" + name.replace("'", "''") + "'"
