"""Questions that ask two things, cut into them: each has a place of its own that answers it."""

import re

_WORD = "who|whom|whose|what|when|where|which|why|how"
# "Who built it, and when did it open?" Behind a mere comma "which", "who" or "where" is relative.
_BORDER = re.compile(
    rf"(?:(?:[?;]|,?\s+and)\s+(?=(?:(?:in|on|at|for|from|to|by|of|with)\s+)?(?:{_WORD})\s+\w)"
    r"|,\s+(?=(?:what|why|how)\s+\w))",
    re.IGNORECASE,
)
_BEGINS = re.compile(rf"\W*(?:\w+\s+)?(?:{_WORD})\b", re.IGNORECASE)
_POINTS_BACK = re.compile(
    r"\b(?:it|its|they|them|their|he|him|his|she|her|this|that|these|those|there|so)\b",
    re.IGNORECASE,
)
MOST_PARTS = 3


def question_parts(question: str) -> list[str]:
    """The question itself where it is one."""
    parts = [part.strip() for part in _BORDER.split(question) if part.strip()]
    # "The rent of Unit 7, which Bellamy pays": what does not begin as a question has no second one.
    if not 1 < len(parts) <= MOST_PARTS or not all(map(_BEGINS.match, parts)):
        return [question]
    return parts


def search_words(part: str, question: str) -> str:
    """What to look for: the whole question too, where the part says "it"."""
    return f"{part} {question}" if part != question and _POINTS_BACK.search(part) else part
