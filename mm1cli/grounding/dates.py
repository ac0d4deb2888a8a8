"""Dates in text: found by form, put in order. English, German and French names of months.

`dates` are those of a year, for timelines; `mentions` are all, with where they stand and every day
that their spelling may mean: 3/4/2024 is two, 1 July is of any year.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_MONTHS = (
    "january januar janvier jan",
    "february februar février fevrier feb",
    "march märz mars mar",
    "april avril apr",
    "may mai",
    "june juni juin jun",
    "july juli juillet jul",
    "august août aout aug",
    "september septembre sep sept",
    "october oktober octobre oct okt",
    "november novembre nov",
    "december dezember décembre decembre dec dez",
)
_DAYS = range(1, 32)
MONTH_OF = {name: i for i, names in enumerate(_MONTHS, 1) for name in names.split()}
_YEAR = r"(?P<year>1[0-9]{3}|20[0-9]{2})(?![\d.,]*\d)"
_DAY = r"(?P<day>0?[1-9]|[12][0-9]|3[01])"
_NAME = rf"(?P<month>{'|'.join(sorted(MONTH_OF, key=len, reverse=True))})\b\.?"
# Longest forms first: what one form has taken is not read again by another.
_FORMS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?<![\d-]){_YEAR}-(?P<number>0[1-9]|1[0-2])-{_DAY}(?![\d-])",
        rf"(?<![\d.]){_DAY}\.(?P<number>0?[1-9]|1[0-2])\.{_YEAR}",
        rf"(?<!\d){_DAY}(?:st|nd|rd|th|er|\.)?\s+(?:of\s+)?{_NAME},?\s+{_YEAR}",
        rf"\b{_NAME}\s+{_DAY}(?:st|nd|rd|th)?,?\s+{_YEAR}",
        rf"\b{_NAME},?\s+{_YEAR}",
        # A bare number is a year only behind a word that says so.
        rf"\b(?:in|since|by|from|until|till|before|after|year|spring|summer|autumn|winter|seit|im"
        rf"|bis|ab|jahr|en|depuis|avant|après)\s+{_YEAR}(?!\s*(?:%|[a-z]*meters|metres|euros?|kg))",
    )
]

_MENTIONS = [
    *(
        re.compile(pattern, re.IGNORECASE)
        for pattern in (
            rf"(?<![\d/]){_YEAR}/(?P<number>0[1-9]|1[0-2])/{_DAY}(?![\d/])",
            rf"(?<![\d-]){_DAY}-{_NAME}-{_YEAR}",
            r"(?<![\d/])(?P<first>[0-3]?\d)/(?P<second>[0-3]?\d)/(?P<year>1\d{3}|20\d{2})(?![\d/])",
        )
    ),
    *_FORMS[:-1],
    re.compile(rf"(?<![\d.,]){_DAY}(?:st|nd|rd|th|\.)?\s+(?:of\s+)?{_NAME}(?!\w)", re.IGNORECASE),
    # "May 5" and "March 3", not "may 5" and "march 3 miles".
    re.compile(rf"\b(?-i:(?=[A-ZÄÉ])){_NAME}\s+{_DAY}(?:st|nd|rd|th)?\b(?![.,]?\d)", re.IGNORECASE),
    _FORMS[-1],
]


@dataclass(frozen=True, slots=True, order=True)
class Date:
    """`month` and `day` are 0 where the text does not say them."""

    year: int
    month: int = 0
    day: int = 0

    def __str__(self) -> str:
        parts = [f"{self.year:04}", f"{self.month:02}", f"{self.day:02}"]
        return "-".join(parts[: 1 + bool(self.month) + bool(self.month and self.day)])


def dates(text: str) -> Iterator[Date]:
    """Every date in `text`, in the order of the text."""
    for mention in _found(_FORMS, text):
        yield from mention.readings


@dataclass(frozen=True, slots=True)
class Mention:
    """`text[start:end]` is a date. `readings` are the days it may mean; a year of 0 is not said."""

    start: int
    end: int
    readings: tuple[Date, ...]


def mentions(text: str) -> list[Mention]:
    """Every date in `text`, in its order, also those without a year."""
    return _found(_MENTIONS, text)


def _found(forms: Sequence[re.Pattern[str]], text: str) -> list[Mention]:
    """By the first of `forms` that has a place, in the order of the text."""
    found: list[Mention] = []
    is_taken = bytearray(len(text))  # looked up, not searched: a log has a date in each line
    for form in forms:
        for match in form.finditer(text):
            start, end = match.span()
            if is_taken.find(1, start, end) < 0 and (readings := _readings(match.groupdict())):
                found.append(Mention(start, end, readings))
                is_taken[start:end] = bytes([1]) * (end - start)
    return sorted(found, key=lambda one: one.start)


def _readings(named: dict[str, str | None]) -> tuple[Date, ...]:
    year = int(named.get("year") or 0)
    if first := named.get("first"):
        pair = int(first), int(named["second"] or 0)
        days = {
            (day, month) for day, month in (pair, pair[::-1]) if day in _DAYS and 0 < month < 13
        }
        return tuple(Date(year, month, day) for day, month in sorted(days))
    month = int(named.get("number") or 0) or MONTH_OF.get((named.get("month") or "").lower(), 0)
    return (Date(year, month, int(named.get("day") or 0)),)
