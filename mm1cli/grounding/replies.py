"""An answer beside its question: a word or two that say something only there, what says no more
than was asked, and quotes that speak of something else.
"""

import re
from collections.abc import Iterable
from typing import Final

from mm1cli.grounding.facts import facts
from mm1cli.grounding.statements import has_verb
from mm1cli.grounding.words import words

_MOST_WORDS: Final = 8  # of what says nothing without its question
_ASKS: Final = re.compile(
    r"\W*(?:(?:on|in|at|by|from|to|with|until|since|under|for|of)\s+)?"
    r"(?P<asks>who|whom|when|where|why|how\s+(?:many|much)|how|what|which)\b\s*",
    re.IGNORECASE,
)
# What is named where these are asked for says them itself: "which firm", "on which day".
_KINDS: Final = re.compile(
    r"(?:firm|company|person|people|day|date|year|month|time|place|city|town|country|name)s?\b\s*",
    re.IGNORECASE,
)
_SEVERAL: Final = re.compile(
    r"\b(?:and|or)\b[^?]*\b(?:who|what|which|when|where|why|how)\b|\?.*\?", re.IGNORECASE | re.S
)
_ALTERNATIVES: Final = re.compile(r"\bor\b", re.IGNORECASE)
_BECAUSE: Final = re.compile(r"\W*(?:because|since|due\s+to|as)\b", re.IGNORECASE)


def stated(question: str, answer: str) -> str:
    """`answer` with what `question` says of it, where it says nothing alone: "310 people came to
    the open day" for "How many people came to the open day?" - "310". Not always grammatical; the
    words are those that a quote must have."""
    asked = _ASKS.match(question)
    if asked is None or _SEVERAL.search(question) or not _is_fragment(answer):
        return answer
    rest = question[asked.end() :].rstrip(" ?")
    if asked["asks"].lower() in {"what", "which"}:
        rest = _KINDS.sub("", rest, count=1)
    said = answer.strip().rstrip(".")
    if asked["asks"].lower() == "why":
        return f"{rest} {said}." if _BECAUSE.match(said) else answer
    return f"{said} {_without(said, rest)}."


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


def _is_fragment(answer: str) -> bool:
    return 0 < len(words(answer)) <= _MOST_WORDS and not has_verb(answer)


def _without(said: str, rest: str) -> str:
    """`rest` without its beginning that `said` ends with: "412,000 passengers passengers"."""
    ends = [word.stem for word in words(said)][-1:]
    begins = words(rest)
    if begins and [begins[0].stem] == ends:
        return rest[begins[0].start + len(begins[0].text) :].lstrip()
    return rest
