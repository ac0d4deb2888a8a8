"""Does a training text repeat an evaluation text? By shared runs of 13 words (arXiv 2005.14165)."""

import re
from collections.abc import Iterable, Iterator

NUM_WORDS = 13


def runs(text: str, num_words: int = NUM_WORDS) -> Iterator[int]:
    """A hash of each run of so many words, whatever their case and punctuation."""
    words = re.findall(r"\w+", text.lower())
    for start in range(len(words) - num_words + 1):
        yield hash(tuple(words[start : start + num_words]))


class Overlap:
    """Knows the runs of the evaluation texts; memory grows with their length."""

    def __init__(self, evaluation: Iterable[str]) -> None:
        self._known = {run for text in evaluation for run in runs(text)}

    def shares_with(self, text: str) -> bool:
        """Whether `text` has a run of 13 words in common with an evaluation text."""
        return bool(self._known) and any(run in self._known for run in runs(text))
