"""What can be checked in a text by value: dates, times of day, quantities, rates, identifiers.

`Facts.states` says whether all of a text's facts stand in others, however both spell them:
"15th March 2024" and 2024-03-15, "4 pm" and 16:00, "48.2 million" and 48,200,000.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from mm1cli.grounding.dates import Date, Mention, mentions
from mm1cli.grounding.quantities import Quantity, quantities

_LIST_MARK = re.compile(r"^\s*\d{1,3}[.)](?=\s)", re.MULTILINE)
_TIME = re.compile(
    r"(?<![\d:.])(?P<hour>[01]?\d|2[0-4])(?:(?P<sign>[:.])(?P<minute>[0-5]\d)(?::[0-5]\d)?)?"
    r"(?:\s?(?P<half>[ap])\.?m\b\.?)?(?![\d:])",
    re.IGNORECASE,
)
# Letters and digits in one word: P40, INV-2291, FV19. Not 48.2m, 15th, 3-year.
_IDENTIFIER = re.compile(r"(?<![\w-])(?=[\w-]*\d)[^\W\d_][\w]*(?:-\w+)*(?![\w-])")
_RATE = re.compile(
    r"(?:\b(?:per|a|an|each|every|/)\s+)"
    r"(?P<unit>second|minute|hour|day|week|month|quarter|year)\b|"
    r"\b(?P<adverb>hourly|daily|weekly|monthly|quarterly|yearly|annually|annual)\b",
    re.IGNORECASE,
)
_ORDINAL = re.compile(r"(?<![\w.,])(?P<day>[0-3]?\d)(?:st|nd|rd|th)\b", re.IGNORECASE)
_ADVERBS = {
    "hourly": "hour",
    "daily": "day",
    "weekly": "week",
    "monthly": "month",
    "quarterly": "quarter",
    "yearly": "year",
    "annually": "year",
    "annual": "year",
}
_FEWEST_DIGITS = 3  # of an identifier, that are a number by themselves: the 2291 of INV-2291


@dataclass(frozen=True, slots=True)
class Fact:
    """`text` as it is written, and what it is: one of the kinds of this module's first line."""

    text: str
    start: int
    kind: str
    date: tuple[Date, ...] = ()
    quantity: Quantity | None = None
    word: str = ""  # of a time, a rate, an identifier, an ordinal: how equal ones are spelled


def facts(text: str) -> list[Fact]:
    """The facts of `text`, in its order; numbers that only count a list's items are left out."""
    text = unicodedata.normalize("NFKC", text)
    whole, found = text, [_dated(text, mention) for mention in mentions(text)]
    text = _blanked(text, [(fact.start, fact.start + len(fact.text)) for fact in found])
    text = _LIST_MARK.sub(lambda mark: " " * len(mark.group()), text)
    for kind, pattern in (("time", _TIME), ("ordinal", _ORDINAL), ("identifier", _IDENTIFIER)):
        spans = []
        for match in pattern.finditer(text):
            if word := _word(kind, match):
                found.append(Fact(match.group().strip(), match.start(), kind, word=word))
                spans.append(match.span())
        text = _blanked(text, spans)
    for one in quantities(text):
        words = whole[one.start : one.end].strip()
        found.append(Fact(words, one.start, "quantity", quantity=one))
    for match in _RATE.finditer(text):
        unit = (match["unit"] or _ADVERBS[match["adverb"].lower()]).lower()
        found.append(Fact(match.group(), match.start(), "rate", word=unit))
    return sorted(found, key=lambda fact: fact.start)


def _blanked(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """`text` with blanks at `spans`, which ascend."""
    pieces, at = [], 0
    for start, end in spans:
        pieces += [text[at:start], " " * (end - start)]
        at = end
    return "".join([*pieces, text[at:]])


def _dated(text: str, mention: Mention) -> Fact:
    words = text[mention.start : mention.end]
    return Fact(words, mention.start, "date", date=mention.readings)


def _word(kind: str, match: re.Match[str]) -> str:
    if kind == "identifier":
        return match.group().casefold()
    if kind == "ordinal":
        return match["day"].lstrip("0")
    if not match["half"] and match["sign"] != ":":
        return ""  # 7 and 7.30 are numbers
    hour = int(match["hour"])
    if match["half"]:
        hour = hour % 12 + 12 * (match["half"].lower() == "p")
    return f"{hour:02}:{match['minute'] or '00'}"


@dataclass(slots=True)
class Facts:
    """The facts of some texts, to look others up in."""

    dates: set[Date] = field(default_factory=set)
    words: set[tuple[str, str]] = field(default_factory=set)
    quantities: dict[Decimal, list[Quantity]] = field(default_factory=dict)

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Facts":
        known = cls()
        for text in texts:
            for fact in facts(text):
                known.add(fact)
        return known

    def add(self, fact: Fact) -> None:
        for date in fact.date:
            self.dates |= _implied(date)
            self.words.add(("ordinal", str(date.day)))
            self._add_number(Decimal(date.year))
        if fact.quantity is not None:
            for value in fact.quantity.values | fact.quantity.written:
                self.quantities.setdefault(value, []).append(fact.quantity)
        if fact.word:
            self.words.add((fact.kind, fact.word))
        if fact.kind == "identifier":
            for digits in re.findall(rf"\d{{{_FEWEST_DIGITS},}}", fact.word):
                self._add_number(Decimal(digits))
        if fact.kind == "ordinal":
            self._add_number(Decimal(fact.word))

    def _add_number(self, value: Decimal) -> None:
        if value:
            self.quantities.setdefault(value, []).append(Quantity(0, 0, frozenset({value})))

    def states(self, fact: Fact) -> bool:
        """Whether `fact` stands here or follows from a date that does."""
        if fact.date:
            return any(self._has_date(date) for date in fact.date)
        if fact.quantity is not None:
            return any(
                fact.quantity.equals(known)
                for value in fact.quantity.values | fact.quantity.written
                for known in self.quantities.get(value, ())
            )
        return (fact.kind, fact.word) in self.words

    def _has_date(self, date: Date) -> bool:
        if date in self.dates:
            return True
        # "From 1 July" in a letter of 2025 is 1 July 2025; but 1 July of another year is not.
        parts = Date(0, date.month, date.day) if date.month else None
        if date.month == 0:
            return Decimal(date.year) in self.quantities
        is_open = parts in self.dates and not any(
            known.year and (known.month, known.day) == (date.month, date.day)
            for known in self.dates
        )
        return is_open and Date(date.year) in self.dates


def _implied(date: Date) -> set[Date]:
    """A day, and the month and year that it lies in."""
    implied = {date}
    if date.year:
        implied |= {Date(date.year), Date(date.year, date.month)}
        if date.day:
            implied.add(Date(0, date.month, date.day))
    return implied


def unknown_facts(text: str, *known: Callable[[], Facts]) -> list[str]:
    """The dates and numbers of `text` that stand in none of `known`, as they are written, once
    each; each is asked only if the ones before leave any. A rate is neither."""
    left = [fact for fact in facts(text) if fact.kind != "rate"]
    for ask in known:
        if left:
            there = ask()
            left = [fact for fact in left if not there.states(fact)]
    return list(dict.fromkeys(fact.text for fact in left))
