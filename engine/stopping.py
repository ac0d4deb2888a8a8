"""When an answer ends that does not end by itself: stop texts, loops."""

from collections.abc import Sequence
from typing import Final

_LONGEST_PERIOD: Final = 64
_FEWEST_REPEATS: Final = 4
_SHORTEST_LOOP: Final = 32


def in_loop(token_ids: Sequence[int]) -> bool:
    """Whether the end of `token_ids` is one stretch of at most 64 tokens, four times or more.

    The repeats together span at least 32 tokens, so that a row of zeros or dashes may be written.
    """
    return any(_ends_in_repeats(token_ids, period) for period in range(1, _LONGEST_PERIOD + 1))


def _ends_in_repeats(token_ids: Sequence[int], period: int) -> bool:
    span = period * max(_FEWEST_REPEATS, -(-_SHORTEST_LOOP // period))
    tail = token_ids[-span:]
    return len(tail) == span and tail[period:] == tail[:-period]


class StopTexts:
    """Texts that end an answer and are no part of it."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = tuple(filter(None, texts))
        self._longest = max((len(text) - 1 for text in self._texts), default=0)

    def find(self, text: str) -> int | None:
        """Where the first of them begins in `text`."""
        found = [at for stop in self._texts if (at := text.find(stop)) >= 0]
        return min(found, default=None)

    def held_back(self, text: str) -> int:
        """Length of the longest end of `text` with which a stop text begins."""
        for size in range(min(self._longest, len(text)), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._texts):
                return size
        return 0
