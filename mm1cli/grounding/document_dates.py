"""Which of two documents is the later one, by what they say of themselves.

Dates come first: of the head (an e-mail's Date), of the file's name, of a table's row. Then what a
head says ("replaces", "amended"), then versions, and at last when files were changed.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

from mm1cli.grounding.dates import Date, dates
from mm1cli.ingest.corpus import Document
from mm1cli.retrieval.passages import Passage

_HEAD_CHARS = 300
_NUM_TITLE_LINES = 3
_YEAR = re.compile(r"(?<![\d.,])(?:19|20)\d\d(?![\d.,]*\d)")
_VERSION = re.compile(r"\b(?:version|edition|revision|rev\.?|v)[ .]?(\d+(?:\.\d+)*)", re.IGNORECASE)
_SAYS_LATER = re.compile(
    r"\b(?:amend\w*|replac(?:es|ing|ement)|supersed(?:es|ing)|corrigend\w*|correct(?:s|ion)\b"
    r"|revis(?:ed|ion)|withdrawn|no longer|instead of)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Age:
    """What is known of when a document was made. `version` () and `modified` None: nothing."""

    date: Date | None
    says_later: bool
    version: tuple[int, ...]
    modified: float | None


def age(passage: Passage) -> Age:
    """Of the document that `passage` is of, or of the row, where it is one of a table."""
    document = passage.document
    head = _head(document)
    is_row = passage.block.unit == "row"
    found = next(dates(passage.text if is_row else head), None)
    name = PurePath(document.path).name
    found = found or next(dates(name), None) or _year(name) or _year(_title(head))
    version = _VERSION.search(f"{_title(head)} {name}")
    numbers = tuple(int(part) for part in version[1].split(".")) if version else ()
    return Age(found, bool(_SAYS_LATER.search(head)), numbers, _modified(document.path))


def compare(one: Age, other: Age) -> tuple[int, str]:
    """1 if `one` is later, -1 if `other` is, 0 if it cannot be told; and by what."""
    if one.date and other.date and (sign := _compare_dates(one.date, other.date)):
        return sign, "date"
    if one.says_later != other.says_later:
        return (1 if one.says_later else -1), "what it says"
    if one.version and other.version and one.version != other.version:
        return (1 if one.version > other.version else -1), "version"
    if one.modified and other.modified and one.modified != other.modified:
        return (1 if one.modified > other.modified else -1), "file time"
    return 0, ""


def _compare_dates(one: Date, other: Date) -> int:
    """As far as both are known: of two dates in one year one of which has no month, nothing is."""
    for a, b in ((one.year, other.year), (one.month, other.month), (one.day, other.day)):
        if not (a and b):
            return 0
        if a != b:
            return 1 if a > b else -1
    return 0


def _head(document: Document) -> str:
    return "\n".join(block.text for block in document.blocks[:2])[:_HEAD_CHARS]


def _title(head: str) -> str:
    return "\n".join(head.split("\n")[:_NUM_TITLE_LINES])


def _year(text: str) -> Date | None:
    years = _YEAR.findall(text.replace("_", " "))
    return Date(int(years[0])) if years else None


def _modified(path: str) -> float | None:
    with suppress(OSError, ValueError):
        return Path(path).stat().st_mtime
    return None
