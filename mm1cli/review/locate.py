"""Where a quote stands in a file. The program looks, whatever lines the model named.

The rule: white space at the ends of lines does not count, nor around the whole quote; everything
else must be there character by character. A quote counts where it overlaps the lines named; else
at the only place in the file that has it; else nowhere.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass

from mm1cli.review.finding import Region, Rejection

_FEWEST_VISIBLE = 6  # of a quote that is found elsewhere than it was said to be
_MOST_PLACES = 10_000
_NUMBERED = re.compile(r"^ *\d+[+ ]?\|", re.MULTILINE)
_LINE_END = re.compile(r"[ \t\r\f\v]+(?=\n|\Z)")


@dataclass(frozen=True, slots=True)
class Match:
    """`text[start:end]` of the file, and its place in lines and columns."""

    start: int
    end: int
    region: Region


class FileText:
    """A file's text, ready to be searched. Lines are what newlines end, as in locators."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = text.split("\n")
        self._starts = [0]
        for line in self.lines:
            self._starts.append(self._starts[-1] + len(line) + 1)
        self._bare, self._offsets = _bare(text)

    def find(self, quote: str, first: int, last: int) -> Match | Rejection:
        """The place of `quote`, which the model says is in lines `first` to `last`."""
        wanted = _bare(quote.replace("\r\n", "\n"))[0].strip()
        places = self._places(wanted) if wanted else []
        if not places and _NUMBERED.sub("", wanted) != wanted:
            wanted = _NUMBERED.sub("", wanted).strip()  # line numbers, as the model was shown them
            places = self._places(wanted) if wanted else []
        if not places:
            return Rejection.NOT_THERE
        near = [p for p in places if p.region.last >= first and p.region.first <= max(first, last)]
        if near:
            return min(near, key=lambda p: abs(p.region.first - first))
        if len(places) == 1 and len("".join(wanted.split())) >= _FEWEST_VISIBLE:
            return places[0]
        return Rejection.AMBIGUOUS

    def region(self, start: int, end: int) -> Region:
        first, last = self._line(start), self._line(max(end - 1, start))
        return Region(
            first + 1, start - self._starts[first] + 1, last + 1, end - self._starts[last] + 1
        )

    def code(self, first: int, last: int) -> tuple[str, ...]:
        """Lines `first` to `last`, each with its white space as single blanks."""
        return tuple(" ".join(line.split()) for line in self.lines[first - 1 : last])

    def occurrence(self, first: int, last: int) -> int:
        """How many times the code of these lines stands further up, and once more for itself."""
        code = self.code(first, last)
        return 1 + sum(self.code(at, at + last - first) == code for at in range(1, first))

    def _places(self, wanted: str) -> list[Match]:
        found: list[Match] = []
        at = self._bare.find(wanted)
        while at >= 0 and len(found) < _MOST_PLACES:
            start = self._offset(at)
            end = self._offset(at + len(wanted) - 1) + 1
            found.append(Match(start, end, self.region(start, end)))
            at = self._bare.find(wanted, at + 1)
        return found

    def _line(self, offset: int) -> int:
        return bisect_right(self._starts, offset) - 1

    def _offset(self, bare: int) -> int:
        index = bisect_right(self._offsets, (bare, 1 << 62)) - 1
        bare_start, start = self._offsets[index]
        return start + bare - bare_start


def _bare(text: str) -> tuple[str, list[tuple[int, int]]]:
    """`text` without white space at the ends of lines; breakpoints (offset there, offset here)."""
    pieces, offsets, at, length = [], [(0, 0)], 0, 0
    for match in _LINE_END.finditer(text):
        pieces.append(text[at : match.start()])
        length += match.start() - at
        at = match.end()
        offsets.append((length, at))
    pieces.append(text[at:])
    return "".join(pieces), offsets
