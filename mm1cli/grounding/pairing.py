"""Which number belongs to what, where a clause has several of a kind.

"9 in the drug group and 11 in the placebo group": the words around each number, and the order of
numbers and dates, tell whether a sentence gives one what belongs to the other.
"""

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from mm1cli.grounding.facts import Fact, Facts, facts
from mm1cli.grounding.words import words

_SEGMENT = re.compile(r"\s+(?:and|or|but|while)\s+|[,;]\s+")


def is_paired_otherwise(asked: Sequence[Fact], quote: str) -> bool:
    """Whether a number and a date of the sentence each stand next to another one in the quote."""
    there = facts(quote)
    numbers = [fact for fact in there if fact.quantity is not None and not is_year(fact)]
    times = [fact for fact in there if fact.date]
    if len(numbers) < 2 or len(times) < 2:
        return False

    def place(fact: Fact, among: Sequence[Fact]) -> int | None:
        return next((n for n, one in enumerate(among) if Facts.of([one.text]).states(fact)), None)

    mine = [place(fact, numbers) for fact in asked if fact.quantity is not None]
    when = [place(fact, times) for fact in asked if fact.date]
    if len(mine) != 1 or len(when) != 1 or mine[0] is None or when[0] is None:
        return False
    number, time = numbers[mine[0]], times[when[0]]
    nearest_time = min(times, key=lambda one: abs(one.start - number.start))
    nearest_number = min(numbers, key=lambda one: abs(one.start - time.start))
    return nearest_time is not time and nearest_number is not number


def is_listed_otherwise(asked: Sequence[Fact], wanted: AbstractSet[str], quote: str) -> bool:
    """Whether, of "9 in the drug group and 11 in the placebo group", the sentence gives one group
    the number of the other."""
    segments = [_Segment(text) for text in _segments(quote)]
    for fact in asked:
        own = [one for one in segments if one.place(fact) is not None]
        others = [one for one in segments if one not in own and one.another(fact) is not None]
        if len(own) != 1 or not others:
            continue
        mine, theirs = own[0].around(fact), [one.around(fact) for one in others]
        for side in (1, 0):  # what is counted is named behind its number, or before it
            named = mine[side].difference(*(its[side] for its in theirs))
            if named:
                if not named & wanted and any((its[side] - mine[side]) & wanted for its in theirs):
                    return True
                break
    return False


def are_numbers_turned(text: str, quote: str) -> bool:
    def order(of: str) -> list[tuple[str, frozenset[Decimal]]]:
        found = [one.quantity for one in facts(of) if one.quantity and not is_year(one)]
        return [(one.unit, one.values) for one in found]

    ours, theirs = order(text), order(quote)
    shared = [one for one in ours if theirs.count(one) == 1]
    if len({unit for unit, _ in shared}) > 1:
        return False
    return len(shared) > 1 and theirs.index(shared[0]) > theirs.index(shared[-1])


def has_same_unit(one: Fact, other: Fact) -> bool:
    assert one.quantity is not None and other.quantity is not None
    return one.quantity.unit == other.quantity.unit


def is_year(fact: Fact) -> bool:
    if fact.quantity is not None:
        return not fact.quantity.unit and any(
            1000 <= value < 2100 for value in fact.quantity.values
        )
    return any(not date.month for date in fact.date)


def _could_be(fact: Fact, other: Fact) -> bool:
    """Of the same kind, so that each has a place of its own in a list."""
    if fact.quantity is not None and other.quantity is not None:
        return not fact.quantity.unit or not other.quantity.unit or has_same_unit(fact, other)
    return fact.kind == other.kind


def _segments(text: str) -> list[str]:
    start, found = 0, []
    for border in [one.span() for one in _SEGMENT.finditer(text)] + [(len(text),) * 2]:
        found.append(text[start : border[0]])
        start = border[1]
    return found


@dataclass(frozen=True)
class _Segment:
    """A part of a list."""

    text: str

    @cached_property
    def facts(self) -> list[Fact]:
        return facts(self.text)

    def place(self, fact: Fact) -> Fact | None:
        return next((one for one in self.facts if Facts.of([one.text]).states(fact)), None)

    def another(self, fact: Fact) -> Fact | None:
        return next((one for one in self.facts if _could_be(fact, one)), None)

    def around(self, fact: Fact) -> tuple[set[str], set[str]]:
        """The stems before the fact, or what stands in its place, and those behind it."""
        found = self.place(fact) or self.another(fact)
        assert found is not None
        before, behind = self.text[: found.start], self.text[found.start + len(found.text) :]
        return _stems(before), _stems(behind)


def _stems(text: str) -> set[str]:
    return {
        word.stem
        for word in words(text)
        if word.is_content and not any(character.isdigit() for character in word.text)
    }
