"""Where a quote stands in a file. The program looks, whatever lines the model named.

The rule: white space at the ends of lines does not count, nor around the whole quote; everything
else must be there character by character. A quote counts where it overlaps the lines named; else
at the only place in the file that has it; else nowhere.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass
from itertools import islice

from mm1cli.grounding.normalize import CodeText
from mm1cli.grounding.quote_index import QuoteIndex
from mm1cli.ingest.corpus import Corpus, Document
from mm1cli.review.finding import Region, Rejection

_FEWEST_VISIBLE = 6  # of a quote that is found elsewhere than it was said to be
_MOST_MATCHES = 10_000
_NUMBERED = re.compile(r"^ *\d+[+ ]?\|", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Match:
    """`text[start:end]` of the file, and its place in lines and columns."""

    start: int
    end: int
    region: Region


class FileText:
    """A text file, ready to be searched. Lines are what newlines end, as in locators."""

    def __init__(self, document: Document) -> None:
        self.text = document.blocks[0].text
        self.lines = self.text.split("\n")
        self._starts = [0]
        for line in self.lines:
            self._starts.append(self._starts[-1] + len(line) + 1)
        self._index = QuoteIndex(Corpus((document,)), normalized=CodeText)

    def find(self, quote: str, first: int, last: int) -> Match | Rejection:
        """The place of `quote`, which the model says is in lines `first` to `last`."""
        quote = CodeText(quote).text
        # The model may copy the line numbers it was shown.
        matches = self._matches(quote) or self._matches(_NUMBERED.sub("", quote))
        if not matches:
            return Rejection.NOT_THERE
        near = [m for m in matches if m.region.last >= first and m.region.first <= max(first, last)]
        if near:
            return min(near, key=lambda match: abs(match.region.first - first))
        only = matches[0]
        num_visible = len("".join(self.text[only.start : only.end].split()))
        if len(matches) == 1 and num_visible >= _FEWEST_VISIBLE:
            return only
        return Rejection.AMBIGUOUS

    def _region(self, start: int, end: int) -> Region:
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

    def _matches(self, quote: str) -> list[Match]:
        spans = [(m.start, m.end) for m in islice(self._index.find_all(quote), _MOST_MATCHES)]
        return [Match(start, end, self._region(start, end)) for start, end in spans]

    def _line(self, offset: int) -> int:
        return bisect_right(self._starts, offset) - 1
