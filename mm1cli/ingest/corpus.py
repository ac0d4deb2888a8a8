"""The noun `Corpus`: documents in a fixed order, each a list of text blocks that know their place.

Nothing here reads a file. Readers make `Block`s, the walk decides the order, and whatever could
not be read is an `Omission` with one reason, so that every file seen is accounted for.
"""

from bisect import bisect_right
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from mm1cli.ingest.locator import Locator, Place, Unit

__all__ = [
    "Block",
    "Corpus",
    "Damaged",
    "Document",
    "Locator",
    "Omission",
    "Place",
    "Reason",
    "Unit",
    "Unread",
]


class Reason(StrEnum):
    """Why a file's text is not in the corpus. One reason each; the value is what people read."""

    BINARY = "binary"
    DUPLICATE = "named twice"
    EMPTY = "empty"
    ENCRYPTED = "password protected"
    EXCLUDED = "excluded"
    HIDDEN = "hidden"
    IGNORED = "ignored by .gitignore"
    LFS_POINTER = "Git LFS pointer, the file itself is not here"
    NOT_A_FILE = "not a regular file"
    NO_TEXT = "no text layer"
    OUTSIDE = "link leaves the folder"
    OVER_BUDGET = "dropped by --fit"
    SECRET = "holds a secret"
    TOO_DEEP = "nested too deep"
    TOO_LARGE = "too large"
    TOO_SLOW = "reader took too long"
    UNREADABLE = "unreadable"
    UNSUPPORTED = "format not supported"


class Unread(str):
    """A warning that text of the file is not in the corpus: `--strict` counts it."""

    __slots__ = ()


class Damaged(Unread):
    """One by a parser that met what it cannot read, or too much of it: what a file would leave that
    was made to take the parser over and failed, or did not."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Block:
    """A run of text from one place. A newline ends a unit; the first unit is number `first`.

    `columns` are the first and last column of a sheet's rows ("A", "F"). `mark` says why a reader
    of the page may not see this text ("invisible", "hidden sheet", "comment"). `source` maps
    offsets in `text` to offsets in the file's decoded text: breakpoints (text, source), both
    ascending, the first at text offset 0; from each on, both grow alike up to the next. Without
    breakpoints the format has no decoded text to point into. `outline` is for text that holds its
    own headings: from each offset on, the path of headings, below those in `headings`.
    """

    text: str
    unit: Unit = "line"
    first: int = 1
    place: Place | None = None
    headings: tuple[str, ...] = ()
    columns: tuple[str, str] | None = None
    mark: str = ""
    source: tuple[tuple[int, int], ...] = ()
    outline: tuple[tuple[int, tuple[str, ...]], ...] = ()

    def locate(self, start: int, end: int) -> Locator:
        """The locator of `text[start:end]`, which must not be empty."""
        first = self.first + self.text.count("\n", 0, start)
        last = first + self.text[start:end].rstrip("\n").count("\n")
        return Locator(
            unit=self.unit,
            first=first,
            last=last,
            place=self.place,
            headings=self.headings + self._headings_at(start),
            columns=self.columns,
            mark=self.mark,
            source_start=self.source_offset(start),
            source_end=self.source_offset(end),
        )

    def cell_range(self) -> str:
        """The cells of a block of rows as a spreadsheet names them: "A2:F101"."""
        return str(replace(self.locate(0, len(self.text)), place=None, mark=""))

    def _headings_at(self, offset: int) -> tuple[str, ...]:
        at = bisect_right(self.outline, offset, key=lambda entry: entry[0]) - 1
        return self.outline[at][1] if at >= 0 else ()

    def source_offset(self, offset: int) -> int | None:
        """Where `text[offset]` begins in the decoded source; None without a map."""
        if not self.source:
            return None
        at = bisect_right(self.source, offset, key=lambda point: point[0]) - 1
        text_offset, source_offset = self.source[at]
        return source_offset + offset - text_offset


@dataclass(frozen=True, slots=True)
class Document:
    """One file's text. `path` is how the user would name it; `sha256` is of the file's bytes.

    `encoding` is that of a text file. A container that was opened and has no text of its own, such
    as an archive, has no blocks: its members are documents or omissions of their own, with paths
    that go on from its path. A warning that is `Unread` says that text is missing.
    """

    path: str
    kind: str
    num_bytes: int
    sha256: str
    reader: str
    blocks: tuple[Block, ...]
    warnings: tuple[str, ...] = ()
    encoding: str = ""

    def count(self, kind: Literal["page", "slide", "sheet", "cell", "chapter", "part"]) -> int:
        """How many different places of `kind` have text."""
        places = (block.place for block in self.blocks if block.place is not None)
        return len({place.index for place in places if place.kind == kind})


@dataclass(frozen=True, slots=True)
class Omission:
    """A file that was seen and is not in the corpus."""

    path: str
    reason: Reason
    detail: str = ""
    num_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Corpus:
    documents: tuple[Document, ...]
    omissions: tuple[Omission, ...] = ()

    @property
    def outcomes(self) -> tuple[Document | Omission, ...]:
        return (*self.documents, *self.omissions)
