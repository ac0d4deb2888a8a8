"""Numbers that an answer worked out: sum, difference or product of two that are shown.

Two of a few numbers make many others, so the answer or its question must speak of what was done,
both must be of the number's unit or count the same things, and no other two may give it.
"""

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import combinations
from typing import Final

from mm1cli.grounding.facts import Fact, facts
from mm1cli.grounding.words import words

_SUM: Final = r"sum|total|altogether|together|combined|overall|both|in all"
_DIFFERENCE: Final = (
    r"difference|(?:more|less|fewer|higher|lower|longer|shorter|larger|smaller|older|younger|heavier"
    r"|lighter|cheaper|dearer|later|earlier)\b.*\bthan|how (?:much|many) (?:more|less|fewer)|by how"
    r" (?:much|many)|(?:increas|decreas)\w+ (?:of|by)|remain\w*|(?:is|are|was|were) left"
)
_PRODUCT: Final = r"product|multipl\w+|times|each|apiece"
_SIGNS: Final = {"+": _SUM, "-": _DIFFERENCE, "*": _PRODUCT}
_BARE: Final = ("", "")  # of a number of nothing
_SHOWN: Final = {"+": "+", "-": "\u2212", "*": "\u00d7"}


def computed(text: str, question: str, shown: Sequence[tuple[int, str]]) -> dict[str, str]:
    """The numbers of `text` that two of the `shown` texts give, as they are written, each with how:
    "34 = 21 + 13, from [1]". `shown` are citations by number."""
    said = f"{question}\n{text}"
    signs = [sign for sign, spoken in _SIGNS.items() if re.search(rf"\b(?:{spoken})\b", said, re.I)]
    if not signs:
        return {}
    there = list(_there(shown))
    found = {}
    for fact in facts(text):
        ways = {
            (sign, _value(one), _value(other)): _told(fact, sign, one, other, numbers)
            for sign in signs
            for (first, one), (second, other) in combinations(there, 2)
            for numbers in (sorted({first, second}),)
            if _gives(fact, sign, one, other)
        }
        if len(ways) == 1:
            (found[fact.text],) = ways.values()
    return found


def _there(shown: Sequence[tuple[int, str]]) -> Iterator[tuple[int, Fact]]:
    """Each number once: where two texts have it, it is one and the same."""
    known = set()
    for number, text in shown:
        for fact in facts(text):
            if fact.quantity is not None and (key := (_value(fact), _kind(fact))) not in known:
                known.add(key)
                yield number, fact


def _told(fact: Fact, sign: str, one: Fact, other: Fact, numbers: Sequence[int]) -> str:
    if sign == "-" and _value(one) < _value(other):
        one, other = other, one
    cited = " and ".join(f"[{number}]" for number in numbers)
    return f"{fact.text} = {one.text} {_SHOWN[sign]} {other.text}, from {cited}"


def _gives(fact: Fact, sign: str, one: Fact, other: Fact) -> bool:
    if fact.quantity is None or len(fact.quantity.values) > 1:
        return False
    mine, kind = _value(fact), _kind(fact)
    first, second = _value(one), _value(other)
    kinds = {_kind(one), _kind(other)}
    if sign == "*":  # "6 rooms at 40 crowns each"
        is_of_both = kind in kinds and len(kinds) == 2
        return is_of_both and mine == first * second and mine not in {first, second}
    result = first + second if sign == "+" else abs(first - second)
    return mine == result and len(kinds) == 1 and _BARE not in kinds and kind in {*kinds, _BARE}


def _kind(fact: Fact) -> tuple[str, str]:
    """The unit, or the thing that is counted."""
    if fact.quantity is None or fact.quantity.unit:
        return (fact.quantity.unit if fact.quantity else "", "")
    counted = [word.stem for word in words(fact.quantity.noun) if word.is_content]
    return ("", counted[0]) if counted else _BARE


def _value(fact: Fact) -> Decimal:
    assert fact.quantity is not None
    return min(fact.quantity.values)
