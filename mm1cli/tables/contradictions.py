"""Pairs of sentences from different documents that may contradict each other.

They speak of the same: they share rare words, found through FTS5. And they differ: in their
numbers, or only one of them has a negation. Whether that is a contradiction the model judges.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mm1cli.grounding import citations
from mm1cli.retrieval.bm25 import Bm25Index
from mm1cli.retrieval.passages import Passage

MAX_SENTENCES = 2000  # of those with a number or a negation; more are not compared
_NEIGHBOURS = 8
_FEWEST_SHARED = 3
_LEAST_ALIKE = 0.35  # share of the rarer sentence's weight
_LEAST_ALIKE_FOR_NEGATION = 0.55  # a "not" is nowhere near as telling as another number
_WORD = re.compile(r"[^\W\d_]+")
_COUNTED = re.compile(
    r"(?:\b([^\W\d_]{3,})\s+)?(?<![\d.,])(\d+(?:[.,]\d+)*)(?=(?:\s+([^\W\d_]{2,}))?)"
)
_NEGATING = """
not no never none neither nor cannot refused rejected denied
nicht kein keine keiner nie niemals ne pas jamais aucun aucune
"""
_NEGATIONS = frozenset(_NEGATING.split())


@dataclass(frozen=True, slots=True)
class Pair:
    """`alike` is the shared weight of words over that of the lighter sentence, from 0 to 1."""

    one: Passage
    other: Passage
    alike: float
    differs: str  # "numbers" or "negation"


def pairs(
    sentences: Sequence[Passage], on_progress: Callable[[int, int], None]
) -> tuple[list[Pair], int]:
    """The candidates, the most alike first, and how many sentences could not be compared."""
    telling = [one for one in sentences if _numbers(one.text) or _negations(one.text)]
    compared = telling[:MAX_SENTENCES]
    index = Bm25Index(sentences)
    weights = _weights(sentences)
    found: dict[tuple[int, int], Pair] = {}
    for done, one in enumerate(compared, 1):
        for other in index.search(one.text, _NEIGHBOURS):
            key = (min(id(one), id(other)), max(id(one), id(other)))
            if other.document.path == one.document.path or key in found:
                continue
            if pair := _pair(one, other, weights):
                found[key] = pair
        on_progress(done, len(compared))
    ordered = sorted(found.values(), key=lambda pair: -pair.alike)
    return ordered, len(telling) - len(compared)


def _pair(one: Passage, other: Passage, weights: dict[str, float]) -> Pair | None:
    first, second = _words(one.text), _words(other.text)
    shared = first & second
    lighter = min(sum(weights[w] for w in words) for words in (first, second))
    alike = sum(weights[word] for word in shared) / lighter if lighter else 0.0
    if len(shared) < _FEWEST_SHARED or alike < _LEAST_ALIKE:
        return None
    if _counts_otherwise(one.text, other.text):
        return Pair(one, other, alike, "numbers")
    if alike >= _LEAST_ALIKE_FOR_NEGATION and bool(_negations(one.text)) != bool(
        _negations(other.text)
    ):
        return Pair(one, other, alike, "negation")
    return None


def _counts_otherwise(one: str, other: str) -> bool:
    """Whether both have a number of the same thing, by the word behind it or before, and neither
    has the other's: 48 million, 52 million."""
    mine, theirs = _counted(one), _counted(other)
    known = {number for number, _ in mine}, {number for number, _ in theirs}
    return any(
        word == same and number not in known[1] and differing not in known[0]
        for number, word in mine
        for differing, same in theirs
    )


def _counted(text: str) -> set[tuple[str, str]]:
    """Each number with the word behind it, and with the word before it."""
    found = set()
    for match in _COUNTED.finditer(text.lower()):
        before, number, behind = match.groups()
        found |= {
            (number, f"{side}{word}") for side, word in (("<", before), (">", behind)) if word
        }
    return found


def _weights(sentences: Sequence[Passage]) -> dict[str, float]:
    counts = Counter(word for one in sentences for word in _words(one.text))
    return {word: math.log((1 + len(sentences)) / count) for word, count in counts.items()}


def _words(text: str) -> frozenset[str]:
    words = (word.lower() for word in _WORD.findall(text))
    return frozenset(word for word in words if len(word) > 2 and word not in _NEGATIONS)


def _negations(text: str) -> frozenset[str]:
    words = {
        word.lower() for word in _WORD.findall(text.replace("n't", " not").replace("n’t", " not"))
    }
    return _NEGATIONS & words


def _numbers(text: str) -> frozenset[str]:
    return frozenset(citations.numbers(text))
