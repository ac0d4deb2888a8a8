"""What counting gives without a model: tokens by their trigrams, Witten-Bell smoothed.

P_k(w | h) = (c(h w) + T(h) P_(k-1)(w | h')) / (c(h) + T(h)), T(h) being how many different tokens
followed h (Witten and Bell 1991). Below the counts of the file itself, as far as it was read, are
those of other files, and below these all tokens are alike.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from mm1cli.surprisal.reading import Scores

Fallback = Callable[[Sequence[int], int], float]
ORDER = 3


class Counts:
    """N-grams up to `order`, over whatever `fallback` gives for a token that follows nothing."""

    def __init__(self, fallback: Fallback, order: int = ORDER) -> None:
        self._fallback, self._order = fallback, order
        self._grams: Counter[tuple[int, ...]] = Counter()
        self._totals: Counter[tuple[int, ...]] = Counter()
        self._kinds: Counter[tuple[int, ...]] = Counter()

    def add(self, before: Sequence[int], token_id: int) -> None:
        for history in _histories(before, self._order):
            gram = (*history, token_id)
            self._grams[gram] += 1
            self._totals[history] += 1
            self._kinds[history] += self._grams[gram] == 1

    def p(self, before: Sequence[int], token_id: int) -> float:
        found = self._fallback(before, token_id)
        for history in _histories(before, self._order):
            if total := self._totals[history]:
                kinds = self._kinds[history]
                found = (self._grams[(*history, token_id)] + kinds * found) / (total + kinds)
        return found


def trained(texts: Iterable[Sequence[int]], vocab_size: int) -> Counts:
    counts = Counts(lambda _before, _token_id: 1 / vocab_size)
    for ids in texts:
        for at, token_id in enumerate(ids):
            counts.add(ids[max(at - ORDER + 1, 0) : at], token_id)
    return counts


def scores(ids: Sequence[int], others: Counts, order: int = ORDER) -> Scores:
    """As a model's, [3, T]; entropy and best are not worked out and stand as 0."""
    own = Counts(others.p, order)
    log_p = np.empty(len(ids), np.float32)
    for at, token_id in enumerate(ids):
        before = ids[max(at - ORDER + 1, 0) : at]
        log_p[at] = np.log(own.p(before, token_id))
        own.add(before, token_id)
    return np.stack([log_p, np.zeros_like(log_p), np.zeros_like(log_p)])


def _histories(before: Sequence[int], order: int) -> list[tuple[int, ...]]:
    """From the empty one to the longest."""
    longest = min(order - 1, len(before))
    return [tuple(before[len(before) - size :]) for size in range(longest + 1)]
