"""Lines of a file as a page shows them: numbered, marked, and beside each its heat."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from mm1cli.output.text import elide_end

if TYPE_CHECKING:
    from mm1cli.surprisal import LineSurprisal

AROUND_LINES = 3
_LEAST_GAP = 3  # fewer lines are shown rather than told of
LINE_CHARS = 400
_TELLING_TOKENS = 2
_TOKEN_COLUMNS = 40
_USUAL_PERCENT = 50  # of the lines are as improbable: this one is nothing special
# The share of all ranked lines that are as improbable or more, for each level from the hottest.
SHARES = (0.01, 0.05, 0.10, 0.25)


@dataclass(frozen=True, slots=True)
class Heat:
    """`percent` of the ranked lines are less improbable. `level` is 0 to 4, the hottest."""

    level: int
    percent: str
    words: str


@dataclass(frozen=True, slots=True)
class Row:
    """A line; or, if `number` is 0, `skipped` lines that are not shown. `parts` are (text, whether
    it made the line improbable). `anchor` is where a link to the line leads."""

    number: int
    parts: tuple[tuple[str, bool], ...] = ()
    heat: Heat | None = None
    is_marked: bool = False
    is_added: bool = False
    anchor: str = ""
    skipped: int = 0


def heat(rank_share: float) -> Heat:
    """`rank_share` as in `LineSurprisal`."""
    level = sum(rank_share <= share for share in SHARES)
    below = 100 * (1 - rank_share) + 1e-4  # shares are float32
    percent = f"{min(below, 99.9):.1f}" if below >= 99 else f"{math.floor(below)}"
    return Heat(level, percent, share_words(rank_share))


def share_words(share: float) -> str:
    percent = max(share * 100, 0.01)
    if percent > _USUAL_PERCENT:
        return "usual"
    return f"top {percent:.0f} %" if percent >= 10 else f"top {percent:.2g} %"


def telling(line: "LineSurprisal") -> list[str]:
    """The two tokens that made the line improbable, each once and a long one cut."""
    hottest = sorted(line.tokens, key=lambda token: -token.excess)[:_TELLING_TOKENS]
    return list(dict.fromkeys(elide_end(token.text, _TOKEN_COLUMNS) for token in hottest))


@dataclass(frozen=True, slots=True)
class CodeView:
    """A file's lines, with what is known of each: `shares` by rank, the lines that were `added`,
    and the `odd` ones with their tokens."""

    lines: Sequence[str]
    shares: Mapping[int, float]
    added: frozenset[int]
    odd: Mapping[int, "LineSurprisal"]

    def around(self, spans: Iterable[tuple[int, int]], anchors: str = "") -> list[Row]:
        """The lines of `hunks` (first, last) marked, a few beside each, gaps as such. With
        `anchors` each odd line can be linked to, by that and its number."""
        marked: set[int] = set()
        shown: set[int] = set()
        for first, last in spans:
            marked.update(range(first, min(last, len(self.lines)) + 1))
            shown.update(range(first - AROUND_LINES, last + AROUND_LINES + 1))
        found: list[Row] = []
        before = 0
        inside = sorted(number for number in shown if 1 <= number <= len(self.lines))
        short = (pair for pair in pairwise(inside) if pair[1] - pair[0] <= _LEAST_GAP)
        for number in sorted({*inside, *(n for pair in short for n in range(*pair))}):
            if before and number > before + 1:
                found.append(Row(0, skipped=number - before - 1))
            anchor = f"{anchors}{number}" if anchors and number in self.odd else ""
            found.append(self._row(number, is_marked=number in marked, anchor=anchor))
            before = number
        return found

    def whole(self) -> list[Row]:
        return [self._row(number) for number in range(1, len(self.lines) + 1)]

    def _row(self, number: int, *, is_marked: bool = False, anchor: str = "") -> Row:
        share = self.shares.get(number)
        return Row(
            number,
            tuple(self._parts(number)),
            None if share is None else heat(share),
            is_marked,
            number in self.added,
            anchor,
        )

    def _parts(self, number: int) -> Iterator[tuple[str, bool]]:
        """Tabs are eight columns, as nobody can set them here; a long line is cut."""
        line = self.lines[number - 1].rstrip("\r")
        at = 0
        if (odd := self.odd.get(number)) is not None:
            hottest = sorted(odd.tokens, key=lambda token: -token.excess)[:_TELLING_TOKENS]
            for token in sorted(hottest, key=lambda token: token.column):
                start = token.column - 1
                end = start + len(token.text)
                if at <= start and end <= min(len(line), LINE_CHARS):
                    yield line[at:start].expandtabs(), False
                    yield line[start:end], True
                    at = end
        rest = line[at : max(LINE_CHARS, at)]
        yield rest.expandtabs() + (" …" if len(line) > max(LINE_CHARS, at) else ""), False
