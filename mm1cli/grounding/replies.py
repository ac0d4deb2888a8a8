"""An answer beside its question: what says no more than was asked, quotes about something else."""

import re
from collections.abc import Iterable
from typing import Final

from mm1cli.grounding.facts import facts
from mm1cli.grounding.words import words

_ASKS: Final = re.compile(
    r"\W*(?:(?:on|in|at|by|from|to|with|until|since|under|for|of)\s+)?"
    r"(?:who|whom|when|where|why|how|what|which)\b",
    re.IGNORECASE,
)
_ALTERNATIVES: Final = re.compile(r"\bor\b", re.IGNORECASE)


def says_nothing(question: str, answer: str) -> bool:
    """Whether `answer` has no word and no number that a question of one answer has not itself:
    "East manages the region East"."""
    if _ASKS.match(question) is None or _ALTERNATIVES.search(question):
        return False
    asked = {word.stem for word in words(question)}
    return bool(words(answer)) and all(
        word.stem in asked for word in words(answer) if word.is_content
    )


def speak_of(question: str, texts: Iterable[str]) -> bool:
    """Whether any of `texts` has a word that `question` is about."""
    asked = {word.stem for word in words(question) if word.is_content}
    asked -= {word.stem for match in facts(question) for word in words(match.text)}
    said = {word.stem for text in texts for word in words(text)}
    return not asked or bool(asked & said)
