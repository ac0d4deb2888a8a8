"""The noun `Corpus`: documents in a fixed order, each a list of text blocks that know their place.

Nothing here reads a file. Readers make `Block`s, the walk decides the order, and whatever could
not be read is an `Omission` with one reason, so that every file seen is accounted for.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Unit = Literal["line", "paragraph"]


class Reason(StrEnum):
    """Why a file's text is not in the corpus. One reason each; the value is what people read."""

    BINARY = "binary"
    DUPLICATE = "named twice"
    EMPTY = "empty"
    ENCRYPTED = "password protected"
    HIDDEN = "hidden"
    IGNORED = "ignored by .gitignore"
    NO_TEXT = "no text layer"
    NOT_A_FILE = "not a regular file"
    OUTSIDE = "link leaves the folder"
    TOO_LARGE = "too large"
    TOO_SLOW = "reader took too long"
    UNREADABLE = "unreadable"
    UNSUPPORTED = "format not supported"


@dataclass(frozen=True, slots=True)
class Locator:
    """Where a piece of text stands: a page, and lines or paragraphs counted from 1, inclusive.

    `page` is the 0-based index in the file, `page_label` what is printed on the page.
    """

    unit: Unit
    first: int
    last: int
    page: int | None = None
    page_label: str | None = None

    def __str__(self) -> str:
        if self.page is not None:
            return f"p. {self.page_label or self.page + 1}"
        if self.unit == "paragraph":
            return f"¶ {self.first}" if self.first == self.last else f"¶ {self.first}-{self.last}"
        if self.first == self.last:
            return f"line {self.first}"
        return f"lines {self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class Block:
    """A run of text from one place. A newline ends a unit; the first unit is number `first`."""

    text: str
    unit: Unit = "line"
    first: int = 1
    page: int | None = None
    page_label: str | None = None

    def locate(self, start: int, end: int) -> Locator:
        """The locator of `text[start:end]`, which must not be empty."""
        first = self.first + self.text.count("\n", 0, start)
        last = first + self.text[start:end].rstrip("\n").count("\n")
        return Locator(self.unit, first, last, self.page, self.page_label)


@dataclass(frozen=True, slots=True)
class Document:
    """One file's text. `path` is how the user would name it; `sha256` is of the file's bytes."""

    path: str
    kind: str
    num_bytes: int
    sha256: str
    reader: str
    blocks: tuple[Block, ...]
    warnings: tuple[str, ...] = ()


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
