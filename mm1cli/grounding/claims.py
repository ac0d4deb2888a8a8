"""Which sentence of an answer is carried by which piece of evidence.

A piece carries a sentence if it lacks none of its numbers and makes it likelier by `CLAIM_GAIN`,
says it word for word, or holds all its quotations. The threshold is measured: benchmarks/LOG.md.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mm1cli.grounding import citations
from mm1cli.grounding.attribution import LogProbGain
from mm1cli.grounding.normalize import normalize
from mm1cli.result import Claim
from mm1cli.retrieval.passages import sentences

CLAIM_GAIN = 1.3  # nats per token of the sentence
_FEWEST_WORDS = 3


@dataclass(frozen=True, slots=True)
class Candidate:
    """A citation by its number, its text with what it stands under, its gain if it was measured."""

    number: int
    text: str
    gain: LogProbGain | None = None

    def gain_over(self, start: int, end: int) -> float | None:
        return None if self.gain is None else self.gain.over(start, end)


def supports(text: str, sentence: str, gain: float | None) -> bool:
    """Whether a piece of evidence of this text, with this gain for `sentence`, carries it."""
    if not all(citations.contains_number(text, number) for number in citations.numbers(sentence)):
        return False
    if (gain is not None and gain >= CLAIM_GAIN) or contains_verbatim(text, sentence):
        return True
    quotes = citations.quotations(sentence)
    return bool(quotes) and all(citations.contains(text, quote) for quote in quotes)


def contains_verbatim(text: str, sentence: str) -> bool:
    """Whether `text` has the words of `sentence`, all of them and in one piece, whatever their
    case. Two words are too few to say anything."""
    words = normalize(sentence).casefold().strip(" .!?")
    if len(words.split()) < _FEWEST_WORDS:
        return False
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", normalize(text).casefold()) is not None


def claims(answer: str, pieces: Sequence[Candidate]) -> tuple[Claim, ...]:
    """The sentences of `answer`, each with the numbers of the pieces that carry it."""
    found = []
    for start, end in sentences(answer):
        sentence = answer[start:end]
        numbers = [p.number for p in pieces if supports(p.text, sentence, p.gain_over(start, end))]
        found.append(Claim(start, end, tuple(numbers)))
    return tuple(found)
