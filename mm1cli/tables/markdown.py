"""Answers with rows and columns: what a cell holds, and a table as Markdown and as a value."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mm1cli.grounding import citations
from mm1cli.result import Citation, CitationKind, CitationStatus
from mm1cli.retrieval.passages import Passage

NOT_FOUND = "not found"


@dataclass(frozen=True, slots=True)
class Cell:
    """Words of the model or of a document, and the numbers of the citations that carry them."""

    text: str
    citations: tuple[int, ...] = ()
    is_found: bool = True

    @property
    def markdown(self) -> str:
        marks = "".join(f" [{number}]" for number in self.citations)
        return f"{_escaped(self.text if self.is_found else NOT_FOUND)}{marks}"

    @property
    def value(self) -> dict[str, object]:
        return {
            "text": self.text if self.is_found else None,
            "citations": list(self.citations),
            "is_found": self.is_found,
        }


Row = Sequence[Cell]


class Sources:
    """The citations of one table, numbered from 1 as they come; the same passage once."""

    def __init__(self) -> None:
        self.citations: list[Citation] = []
        self._numbers: dict[tuple[str, int | None, int | None, int | None], int] = {}

    def cite(self, passage: Passage, score: float) -> int:
        exact, evidence = CitationStatus.EXACT, CitationKind.EVIDENCE
        return self.add(citations.cite(0, passage, exact, evidence, score=score))

    def add(self, citation: Citation) -> int:
        """Its number here, whatever it was before."""
        key = (citation.path, citation.block, citation.start, citation.end)
        if key not in self._numbers:
            self._numbers[key] = len(self.citations) + 1
            self.citations.append(replace(citation, number=self._numbers[key]))
        return self._numbers[key]


def head(columns: Sequence[str]) -> str:
    names = " | ".join(map(_escaped, columns))
    return f"| {names} |\n{'|---' * len(columns)}|\n"


def line(row: Row) -> str:
    return f"| {' | '.join(cell.markdown for cell in row)} |\n"


def value(columns: Sequence[str], rows: Sequence[Row]) -> dict[str, object]:
    return {
        "columns": list(columns),
        "rows": [
            {name: cell.value for name, cell in zip(columns, row, strict=True)} for row in rows
        ],
    }


def _escaped(text: str) -> str:
    """On one line, and nothing in it a border, a link or a tag."""
    flat = " ".join(text.split())
    return "".join(f"\\{char}" if char in "\\|<[]`" else char for char in flat)
