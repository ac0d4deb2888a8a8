"""Lines of text into blocks: neighbours that share heading path and mark become one block."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from mm1cli.ingest.corpus import Block, Place, Reason, Unit
from mm1cli.ingest.readers.reader import MIB, ReadError

# Twenty times what the longest context takes; more can only come from a trick.
MAX_TEXT_CHARS = 64 * MIB

LINKS = "links"
_FEW_LINKS = 40
_MOST_LINKS = 1000
_AROUND = "<>()[]{}\"'.,;:!?"
_LONGEST_LINK = 200
_MAX_HEADING_SIGNS = 6
_MAX_BULLET_DEPTH = 8
_HIDDEN = frozenset(
    {"hidden", "hidden row", "hidden sheet", "hidden slide", "off page", "invisible"}
)
_LINE_BREAKS = re.compile(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")
_DROPPED = dict.fromkeys([*range(9), *range(14, 28), 31, 127, *range(0x80, 0x85)])


@dataclass(frozen=True, slots=True)
class Line:
    """One paragraph or line, without line breaks once it is in a block."""

    text: str
    mark: str = ""
    headings: tuple[str, ...] = ()


def tidy(text: str) -> str:
    """`text` without NUL, other controls and lone surrogates; "\\n" is the only line end."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_DROPPED)
    try:
        text.encode()
    except UnicodeEncodeError:
        # Through UTF-16, so that two halves of one character become one character.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
    return text


def one_paragraph(text: str) -> str:
    """`text` as one tidy line without space at its end; at its start, space may be a column."""
    if text.isprintable():
        # Nothing to tidy, and by far the most common case.
        return text.rstrip(" ")
    return _LINE_BREAKS.sub(" ", tidy(text)).rstrip()


def lines_to_blocks(
    lines: Iterable[Line], unit: Unit, place: Place | None = None, first: int = 1
) -> list[Block]:
    """Blocks whose units count on from `first`; empty lines are left out and not counted.

    Raises ReadError: TOO_LARGE.
    """
    blocks = []
    num_chars = 0
    for (headings, mark), group in groupby(lines, lambda line: (line.headings, line.mark)):
        texts = []
        for line in group:
            if text := one_paragraph(line.text):
                texts.append(text)
                num_chars += len(text)
                refuse_flood(num_chars)
        if texts:
            text = "\n".join(texts)
            blocks.append(Block(text, unit, first, place, headings, mark=mark))
            first += len(texts)
    return blocks


def refuse_flood(num_chars: int) -> None:
    """A small file can name one long string a million times. Raises ReadError: TOO_LARGE."""
    if num_chars > MAX_TEXT_CHARS:
        raise ReadError(Reason.TOO_LARGE, f"more than {MAX_TEXT_CHARS // MIB} MiB of text")


def hidden_warnings(blocks: Iterable[Block]) -> list[str]:
    """One for each way in which text that was read is hidden from people."""
    marks = dict.fromkeys(block.mark for block in blocks if block.mark in _HIDDEN)
    return [f"{mark}: text kept and marked" for mark in marks]


def picture_warnings(num_pictures: int) -> list[str]:
    return [f"{num_pictures} pictures are not read"] if num_pictures else []


def signed(text: str, sign: str, before: list[str] | None = None) -> str:
    """`text` that is raised ("^"), lowered ("_") or struck ("~"), blanks outside of the signs.

    `before` are the pieces of text that stand before it: one look in several pieces has its signs
    once, for which the last of them is taken away.
    """
    inside = text.strip()
    if not inside:
        return text
    opening, closing = ("~~", "~~") if sign == "~" else (f"{sign}{{", "}")
    start, _, end = text.partition(inside)
    last = before[-1].rstrip() if before else ""
    if before and last.lstrip().startswith(opening) and last.endswith(closing):
        blanks = before.pop()[len(last) :] + start
        return f"{last[: -len(closing)]}{blanks}{inside}{closing}{end}"
    return f"{start}{opening}{inside}{closing}{end}"


def ranges(indices: Iterable[int]) -> str:
    """0-based indices, ascending, as people count: "3-7, 9"."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], index]
        else:
            runs.append([index])
    return ", ".join("-".join(str(index + 1) for index in run) for run in runs)


def as_heading(text: str, level: int) -> str:
    """With the signs of its level, 0 for a chapter's."""
    return f"{'#' * min(max(level, 0) + 1, _MAX_HEADING_SIGNS)} {text}" if text else text


def bullet(level: int, sign: str = "-") -> str:
    """What stands before an item of a list at `level` (from 0)."""
    return f"{'  ' * min(max(level, 0), _MAX_BULLET_DEPTH)}{sign} "


class LinkList:
    """Where links lead that the text does not say itself: a block of its own at the end."""

    def __init__(self) -> None:
        self._targets: dict[str, str] = {}
        self._num_left = 0

    def add(self, text: str, target: str) -> None:
        text, target = (" ".join(one_paragraph(one).split()) for one in (text, target))
        is_outside = target.startswith(("http://", "https://", "mailto:"))
        is_news = text and _address(target) not in text
        if not is_outside or not is_news or len(target) > _LONGEST_LINK:
            return
        if len(self._targets) < _MOST_LINKS:
            self._targets.setdefault(target, text)
        else:
            self._num_left += target not in self._targets

    def lines(self, told: Iterable[str]) -> list[Line]:
        """Those that no word of the texts `told` is; beyond the first few, only as many as are
        shorter than half of these texts."""
        if not self._targets:
            return []
        said: set[str] = set()
        room = 0
        for text in told:
            room += len(text) // 2
            said.update(_address(word.strip(_AROUND)) for word in text.split() if "/" in word)
            said.update(word.strip(_AROUND) for word in text.split() if "@" in word)
        news = [one for one in self._targets.items() if _address(one[0]) not in said]
        found: list[Line] = []
        for target, text in news:
            room -= len(text) + len(target)
            if room < 0 and len(found) >= _FEW_LINKS:
                break
            found.append(Line(f"{text}: {target}", LINKS))
        if num_left := len(news) - len(found) + self._num_left:
            found.append(Line(f"{num_left} more links", LINKS))
        return found


def _address(target: str) -> str:
    """What people write of it."""
    for prefix in ("mailto:", "https://", "http://"):
        target = target.removeprefix(prefix)
    return target.rstrip("/")


class HeadingPath:
    """The headings in force. `enter` gives the path with a new heading at `level` (from 0)."""

    def __init__(self) -> None:
        self._path: list[tuple[int, str]] = []

    @property
    def now(self) -> tuple[str, ...]:
        return tuple(text for _, text in self._path)

    def enter(self, level: int, text: str) -> tuple[str, ...]:
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        if text := one_paragraph(text).strip():
            self._path.append((level, text))
        return self.now
