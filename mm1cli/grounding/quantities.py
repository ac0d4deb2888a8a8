"""Quantities in text: a number, in digits or words, with its unit or currency, by value.

"48.2 million", "48,200,000" and "EUR 48.2m" are one number; "two years" are 24 months, 3.5 t are
3,500 kg. A number that a spelling leaves open (1.904: one and a bit, or a German thousand) has two
values, and equals whatever shares one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

_SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORDS: Final = {word: value for value, word in enumerate(_SMALL)} | {
    word: 10 * value for value, word in enumerate(_TENS, 2)
}
_SCALES: Final = {
    "hundred": 2,
    "thousand": 3,
    "tausend": 3,
    "million": 6,
    "millions": 6,
    "millionen": 6,
    "mio": 6,
    "mn": 6,
    "billion": 9,
    "billions": 9,
    "bn": 9,
    "milliarden": 9,
    "mrd": 9,
    "trillion": 12,
}
_MONEY_SCALES: Final = {"k": 3, "m": 6, "b": 9}  # behind a number without money they are units
_CURRENCIES: Final = {
    name: code
    for code, names in {
        "EUR": "€ eur euro euros",
        "USD": "$ usd us$ dollar dollars",
        "GBP": "£ gbp",
        "CHF": "chf francs franken",
        "JPY": "¥ jpy yen",
        "SEK": "sek",
        "NOK": "nok",
        "DKK": "dkk",
        "CU": "cu",
        "crown": "crown crowns",
    }.items()
    for name in names.split()
}
# (the unit things are counted in, how many of it)
_UNITS: Final = {
    name: (unit, Decimal(factor))
    for unit, factor, names in (
        ("%", "1", "% percent prozent"),
        ("second", "0.001", "ms millisecond milliseconds"),
        ("second", "1", "s sec second seconds sekunden"),
        ("second", "60", "min minute minutes minuten"),
        ("second", "3600", "h hr hrs hour hours stunden"),
        ("second", "86400", "day days tage tagen"),
        ("second", "604800", "week weeks wochen"),
        ("month", "1", "month months monate monaten"),
        ("month", "3", "quarter quarters"),
        ("month", "12", "year years yr yrs jahre jahren"),
        ("metre", "0.001", "mm"),
        ("metre", "0.01", "cm"),
        ("metre", "1", "m metre metres meter meters"),
        ("metre", "1000", "km kilometre kilometres kilometer kilometers"),
        ("mile", "1", "mile miles"),
        ("foot", "1", "foot feet ft"),
        ("inch", "1", "inch inches"),
        ("kilogram", "0.000001", "mg milligram milligrams"),
        ("kilogram", "0.001", "g gram grams"),
        ("kilogram", "1", "kg kilo kilos kilogram kilograms"),
        ("kilogram", "1000", "t tonne tonnes"),
        ("pound", "1", "lb lbs pound pounds"),
        ("litre", "0.001", "ml"),
        ("litre", "1", "l litre litres liter liters"),
        ("gallon", "1", "gallon gallons"),
        ("celsius", "1", "°c"),
        ("fahrenheit", "1", "°f"),
        ("byte", "1000", "kb"),
        ("byte", "1000000", "mb"),
        ("byte", "1000000000", "gb"),
        ("byte", "1000000000000", "tb"),
        ("watt", "1", "w watt watts"),
        ("watt", "1000", "kw kilowatt kilowatts"),
        ("watt", "1000000", "mw megawatt megawatts"),
        ("watt hour", "1000", "kwh"),
        ("watt hour", "1000000", "mwh"),
        ("hertz", "1", "hz"),
        ("hertz", "1000", "khz"),
        ("hertz", "1000000", "mhz"),
        ("hertz", "1000000000", "ghz"),
        ("hectare", "1", "ha hectare hectares"),
        ("byte", "1024", "kib"),
        ("byte", "1048576", "mib"),
        ("byte", "1073741824", "gib"),
    )
    for name in names.split()
}
_CURRENCY = "|".join(
    re.escape(name) if not name.isalpha() else rf"\b{name}\b"
    for name in sorted(_CURRENCIES, key=len, reverse=True)
)
_DIGITS = (
    r"(?<![\w.,])(?P<digits>\d{1,3}(?:(?P<group>[,.'’\u00a0\u202f])\d{3})(?:(?P=group)\d{3})*"
    r"(?:[.,]\d+)?(?![\d])|\d+(?:[.,]\d+)?)"
)
_WORD_NUMBER = rf"\b(?P<words>(?:{'|'.join(_TENS)})(?:[- ](?:{'|'.join(_SMALL[1:10])}))?" + (
    rf"|{'|'.join(_SMALL)})\b"
)
_NUMBER = re.compile(
    rf"(?:(?P<before>{_CURRENCY})\s*)?(?:{_DIGITS}|{_WORD_NUMBER})"
    rf"(?P<scale>(?:[ \u00a0-]?(?:{'|'.join(sorted(_SCALES, key=len, reverse=True))})\b\.?)+"
    rf"|[kmb]\b)?(?:\s?\([\d.,]+\))?",
    re.IGNORECASE,
)
_AFTER = re.compile(
    rf"[ \u00a0-]?(?:(?P<currency>{_CURRENCY})|(?P<unit>%|°[CF]\b|per ?cent\b|[a-zµ]+\b))",
    re.IGNORECASE,
)
_HALF = re.compile(
    r"\b(?:an?|one)\s+(?P<more>[a-z]+)\s+and\s+a\s+half\b|\bhalf\s+(?:an?\s+)?(?P<less>[a-z]+)\b",
    re.I,
)
_NO_NOUNS: Final = frozenset({"", "or", "and", "in", "on", "at", "by", "to", "from", "is", "was"})
_RANGE = re.compile(r"\s*(?:to|or|and|[-–—])\s*")


@dataclass(frozen=True, slots=True)
class Quantity:
    """`text[start:end]`: its values in `unit`, "" where none is said. `noun` is the next word of a
    number without one, in small letters."""

    start: int
    end: int
    values: frozenset[Decimal]
    unit: str = ""
    noun: str = ""
    factor: Decimal = Decimal(1)  # of the unit as it is written

    def equals(self, other: "Quantity") -> bool:
        """Equal by value, where neither has another unit; without one a number is any thing's."""
        if self.unit and other.unit:
            return self.unit == other.unit and bool(self.values & other.values)
        bare = other if self.unit else self
        is_bare = bare.noun in _NO_NOUNS and self.unit != other.unit
        return bool(self.values & other.values or (is_bare and self.written & other.written))

    @property
    def written(self) -> frozenset[Decimal]:
        """Without the unit: 18, of 18 years."""
        return frozenset(value / self.factor for value in self.values)


def quantities(text: str) -> Iterator[Quantity]:
    """Every number of `text` with its unit, in its order. "one" is one only before a unit; the unit
    behind "from 42 to 27 minutes" is that of both."""
    found = sorted((*_quantities(text), *_halves(text)), key=lambda one: one.start)
    for index, one in enumerate(found):
        following = found[index + 1] if index + 1 < len(found) else None
        if following and not one.unit and _RANGE.fullmatch(text[one.end : following.start]):
            values = frozenset(value * following.factor for value in one.values)
            one = replace(one, values=values, unit=following.unit, factor=following.factor)
        yield one


def _quantities(text: str) -> Iterator[Quantity]:
    for match in _NUMBER.finditer(text):
        words = (match["words"] or "").lower()
        values = _spelled_out(words) if words else _values(match["digits"], match["group"])
        end = match.end()
        currency = _CURRENCIES.get((match["before"] or "").lower(), "")
        scale = (match["scale"] or "").lower()
        after = _AFTER.match(text, end)
        if scale in _MONEY_SCALES and not currency:
            # "5 m" and "5m": metres, unless money stands before it.
            end, scale = match.start("scale"), ""
            after = _AFTER.match(text, end)
        power = _power(scale)
        values = frozenset(value.scaleb(power) for value in values)
        if not currency and after and after["currency"]:
            currency, end = _CURRENCIES[after["currency"].lower()], after.end()
        if currency:
            yield Quantity(match.start(), end, values, currency)
            continue
        noun = ((after and after["unit"]) or "").lower()
        unit, factor = _unit(noun)
        if unit and after:
            values = frozenset(value * factor for value in values)
            yield Quantity(match.start(), after.end(), values, unit, factor=factor)
        elif words not in {"one", "zero"} or scale:
            yield Quantity(match.start(), end, values, noun=noun)


def _halves(text: str) -> Iterator[Quantity]:
    """ "An hour and a half", "half an hour", "every half hour"."""
    for match in _HALF.finditer(text):
        unit, factor = _unit((match["more"] or match["less"]).lower())
        if unit:
            value = (Decimal("1.5") if match["more"] else Decimal("0.5")) * factor
            yield Quantity(match.start(), match.end(), frozenset({value}), unit, factor=factor)


def _unit(word: str) -> tuple[str, Decimal]:
    word = "percent" if word in {"per cent", "percent"} else word
    return _UNITS.get(word, ("", Decimal(1)))


def _power(scale: str) -> int:
    words = re.findall(r"[a-z]+", scale)
    return sum(_SCALES.get(word, _MONEY_SCALES.get(word, 0)) for word in words)


def _spelled_out(words: str) -> frozenset[Decimal]:
    return frozenset({Decimal(sum(_WORDS[word] for word in re.split("[- ]", words)))})


def _values(digits: str, group: str | None) -> frozenset[Decimal]:
    """What the digits may mean, with points and commas either way where one leaves it open."""
    if group is None:
        return frozenset({Decimal(digits.replace(",", "."))})
    whole = digits.replace(group, "").replace(",", ".")
    values = {Decimal(whole)}
    if digits.count(group) == 1 and group in ".," and whole.isdigit():
        values.add(Decimal(digits.replace(",", ".")))
    return frozenset(values)
