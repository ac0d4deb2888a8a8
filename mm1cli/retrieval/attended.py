"""Search from within: what a question attends to in a context that was read whole."""

from collections.abc import Sequence
from itertools import accumulate
from math import log

from mm1cli.ingest.pack import Packed, Span
from mm1cli.retrieval.passages import Passage

NUM_RUNS = 24  # of the best, whose passages are found
_RUN_TOKENS = 64
_LEAST = 1e-9  # of a passage that gets nothing


class Attended:
    """The share of a retrieval head's attention that each token of the documents gets from one
    question; they begin at token `first` of the context."""

    def __init__(self, packed: Packed, shares: Sequence[float], first: int) -> None:
        self._packed, self._first = packed, first
        self._sums = list(accumulate(shares, initial=0.0))

    def best(self) -> list[Span]:
        """Where the best `NUM_RUNS` runs of tokens stand, the best first."""
        starts = range(self._first, len(self._sums) - 1, _RUN_TOKENS)
        ordered = sorted(starts, key=lambda at: -self._share(at, at + _RUN_TOKENS))
        return [
            span
            for at in ordered[:NUM_RUNS]
            for _, span in self._packed.places(at - self._first, at + _RUN_TOKENS - self._first)
        ]

    def log_share(self, passage: Passage) -> float:
        """Nats; of all of the passage."""
        where = passage.document, passage.block, passage.start, passage.end
        tokens = self._packed.tokens(*where)
        share = self._share(tokens.start + self._first, tokens.stop + self._first)
        return log(max(share, _LEAST))

    def _share(self, start: int, end: int) -> float:
        last = len(self._sums) - 1
        return self._sums[min(end, last)] - self._sums[min(start, last)]
