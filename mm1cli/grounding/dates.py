"""Dates in text: found by form, put in order. English, German and French names of months."""

import re
from collections.abc import Iterator
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
_NUMBER_OF = {name: i for i, names in enumerate(_MONTHS, 1) for name in names.split()}
_YEAR = r"(?P<year>1[0-9]{3}|20[0-9]{2})(?![\d.,]*\d)"
_DAY = r"(?P<day>0?[1-9]|[12][0-9]|3[01])"
_NAME = rf"(?P<month>{'|'.join(sorted(_NUMBER_OF, key=len, reverse=True))})\b\.?"
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
    taken: list[tuple[int, int, Date]] = []
    for form in _FORMS:
        for match in form.finditer(text):
            start, end = match.span()
            if any(start < e and s < end for s, e, _ in taken):
                continue
            named = match.groupdict()
            month = int(named.get("number") or 0) or _NUMBER_OF.get(
                (named.get("month") or "").lower(), 0
            )
            date = Date(int(named["year"]), month, int(named.get("day") or 0))
            taken.append((start, end, date))
    yield from (date for _, _, date in sorted(taken))
