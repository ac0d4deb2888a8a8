"""What both PDF readers share: text made clean, hyphens resolved, pages named as people count."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

from mm1cli.ingest.display_names import one_line
from mm1cli.ingest.readers.text import normalise_newlines

HYPHEN = "\ufffe"  # how pdfium writes a hyphen at a line end whose line it has joined to the next
_REPLACED: dict[int, str | None] = {
    **dict.fromkeys(set(range(32)) - {ord("\t"), ord("\n")}),
    0x2: HYPHEN,  # pdfium's other way to write such a hyphen
    0xFFFF: None,
    0xFEFF: None,
    0xFB00: "ff",
    0xFB01: "fi",
    0xFB02: "fl",
    0xFB03: "ffi",
    0xFB04: "ffl",
    0xFB05: "st",
    0xFB06: "st",
}
_ODD = re.compile("[" + "".join(map(re.escape, map(chr, _REPLACED))) + "]")
_WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)+")
_LETTERS = re.compile(r"[^\W\d_]+")
# English has hardly a word that breaks after these; those it has may stand elsewhere in the file.
_ALWAYS_BEFORE_HYPHEN = frozenset({"self", "well"})
_SHORTEST_WORD = 4
_CUT_RANGE = re.compile(
    r"(?<![\w.,-])([0-9]{1,4})([-–])\n([0-9]{1,4})(?!\w|[.,-]\d|[^\n]{0,500}\t)"
)
_LONGEST_LINE = 500
_HYPHENATED = re.compile(rf"([^\W_]*){HYPHEN}([^\W_]*)")


@dataclass(slots=True)
class Page:
    """One page. `parts` are (mark, text), cleaned, in reading order; `error` says what failed,
    `remarks` what failed beside its text."""

    index: int
    label: str = ""
    parts: tuple[tuple[str, str], ...] = ()
    headings: tuple[str, ...] = ()
    error: str = ""
    remarks: list[str] = field(default_factory=list)
    has_image: bool = False
    is_garbled: bool = False  # no letters are known for what its fonts draw
    is_scan: bool = False  # its text lies invisible on an image of the page: somebody's OCR


def clean(text: str) -> str:
    """`text` with ligatures spelt out, without control characters and lone surrogates.

    `HYPHEN` is kept; `resolve_hyphens` is for it.
    """
    # Where few letters go, this takes a fifth of what `translate` does.
    text = _ODD.sub(lambda one: _REPLACED[ord(one[0])] or "", normalise_newlines(text))
    # Through UTF-16, so that two halves of one character become one character.
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
    return "\n".join(line.rstrip() for line in text.split("\n")).rstrip("\n")


def resolve_hyphens(pages: Iterable[Page]) -> None:
    """Joins words that a line end cut in two, and keeps the hyphen of those that have one.

    A hyphen stays where the document writes the word with it elsewhere, within a line, and does not
    write it without; where it follows a word that is always written with one ("self-contained");
    and where a side is no lower-case letter: "1904-12", "Anglo-Saxon". Ranges of numbers that go on
    in the next line are joined, too.
    """
    pages = list(pages)
    for page in pages:
        if any("-\n" in text or "–\n" in text for _, text in page.parts):
            page.parts = tuple(
                (mark, _CUT_RANGE.sub(_joined_range, text)) for mark, text in page.parts
            )
    if not any(HYPHEN in text for page in pages for _, text in page.parts):
        return
    texts = [text.lower() for page in pages for _, text in page.parts]
    compounds = {word for text in texts if "-" in text for word in _WORD.findall(text)}

    @cache
    def words() -> set[str]:
        return {word for text in texts for word in _LETTERS.findall(text)}

    def join(match: re.Match[str]) -> str:
        before, after = match[1], match[2]
        is_word = before[-1:].islower() and after[:1].islower()
        if not is_word or f"{before}-{after}".lower() in compounds:
            return f"{before}-{after}"
        is_compound = before.lower() in _ALWAYS_BEFORE_HYPHEN and len(after) >= _SHORTEST_WORD
        return (
            f"{before}-{after}" if is_compound and before + after not in words() else before + after
        )

    for page in pages:
        page.parts = tuple((mark, _HYPHENATED.sub(join, text)) for mark, text in page.parts)


def _joined_range(match: re.Match[str]) -> str:
    """ "1904-" and "12", or "98-" and "103", but no "9-" and "4", and no cells of a table."""
    first, sign, last = match.groups()
    end = first[: -len(last)] + last if len(last) < len(first) else last
    before = match.string[max(0, match.start() - _LONGEST_LINE) : match.start()]
    is_range = int(end) > int(first) and "\t" not in before.rpartition("\n")[2]
    return f"{first}{sign}{last}" if is_range else match[0]


def page_ranges(indices: list[int]) -> str:
    """0-based page indices, ascending, as people count: "page 2", "pages 3-7, 9"."""
    ranges: list[list[int]] = []
    for index in indices:
        if ranges and index == ranges[-1][-1] + 1:
            ranges[-1] = [ranges[-1][0], index]
        else:
            ranges.append([index])
    listed = ", ".join("-".join(str(index + 1) for index in pages) for pages in ranges)
    return f"page {listed}" if len(indices) == 1 else f"pages {listed}"


def message_of(error: Exception) -> str:
    return one_line(str(error).strip() or type(error).__name__)[:200]
