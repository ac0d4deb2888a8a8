"""Phrases that say one thing in several words, laid down in one way before words are compared.

"No less than", "never below" and "or more" are "at least"; what stands behind "unless" or "except"
is what the rest is not said of.
"""

import re
from typing import Final

_GOES: Final = (
    r"(?:\s+(?:falls?|fell|drops?|dropped|goes|went|gone|sinks?|sank|rises?|rose|was|is))?"
)
_NUMBER: Final = (
    r"(?:[€$£]?\d[\d.,]*|\w+teen|\w+ty|one|two|three|four|five|six|seven|eight|nine|ten)"
)
_AT_LEAST: Final = re.compile(
    r"\b(?:no\s+(?:less|fewer|lower)\s+than|not\s+(?:less|fewer|lower)\s+than"
    rf"|never{_GOES}\s+(?:below|under)|(?:a|the)\s+minimum\s+(?:of|is))\b",
    re.IGNORECASE,
)
_AT_MOST: Final = re.compile(
    r"\b(?:no\s+(?:more|higher|longer|greater|later)\s+than|not\s+(?:more|higher|longer)\s+than"
    rf"|never{_GOES}\s+(?:above|over)|never\s+more\s+than|(?:a|the)\s+maximum\s+(?:of|is)"
    rf"|up\s+to(?=\s+(?:\w+\s)?{_NUMBER}\b))\b",
    re.IGNORECASE,
)
_OR_MORE: Final = re.compile(
    rf"\b({_NUMBER}(?:\s+\w+)?|an?\s+\w+)\s+or\s+(?:more|older|above|over|longer|higher)\b",
    re.IGNORECASE,
)
_OR_LESS: Final = re.compile(
    rf"\b({_NUMBER}(?:\s+\w+)?|an?\s+\w+)\s+or\s+(?:less|fewer|younger|below|under|shorter|lower)\b",
    re.IGNORECASE,
)
_ABOVE: Final = re.compile(r"\b(?:exceed(?:s|ed|ing)?|in\s+excess\s+of)\b", re.IGNORECASE)
_ALWAYS: Final = re.compile(r"\balways\s+(?=at\s+(?:least|most)\b)", re.IGNORECASE)
_EXCEPTION: Final = re.compile(
    r"\b(?:unless|except(?:ing)?(?:\s+for)?|other\s+than|with\s+the\s+exception\s+of|apart\s+from"
    r"|save\s+(?:that|for)|excluding)\b([^.;:,\n]*)",
    re.IGNORECASE,
)


def canonical(text: str) -> str:
    """`text` with bounds as "at least" and "at most"."""
    for pattern, said in ((_AT_LEAST, "at least"), (_AT_MOST, "at most")):
        text = pattern.sub(said, text)
    for pattern, said in ((_OR_MORE, r"at least \1"), (_OR_LESS, r"at most \1")):
        text = pattern.sub(said, text)
    text = _ABOVE.sub("above", text)
    return _ALWAYS.sub("", text)


def excepted(text: str) -> list[str]:
    """What stands behind "unless", "except" and the like."""
    return [found[1] for found in _EXCEPTION.finditer(text)]
