"""Number formats of spreadsheets: a stored value as the cell shows it (ECMA-376 part 1, 18.8.31).

What the display leaves out is kept beside it: 0.0749 in a cell of whole percents is "7% [0.0749]".
Dates follow the cell's format; where that leaves the day in doubt, the ISO date stands beside it.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation, localcontext
from functools import lru_cache

# By id; the dates that every country shows in its own way are ISO here.
BUILT_IN = {
    **dict(enumerate(("0", "0.00", "#,##0", "#,##0.00"), 1)),
    **dict(enumerate(("0%", "0.00%", "0.00E+00"), 9)),
    **dict(enumerate(("d-mmm-yy", "d-mmm", "mmm-yy", "h:mm AM/PM", "h:mm:ss AM/PM"), 15)),
    **dict(enumerate(("h:mm", "h:mm:ss"), 20)),
    **dict(enumerate(("mm:ss", "[h]:mm:ss", "mm:ss.0", "##0.0E+0"), 45)),
    **dict.fromkeys((37, 38, 41, 42), "#,##0;(#,##0)"),
    **dict.fromkeys((39, 40, 43, 44), "#,##0.00;(#,##0.00)"),
    **dict.fromkeys((14, *range(27, 32), 36, *range(50, 55), 57, 58), "yyyy-mm-dd"),
    22: "yyyy-mm-dd hh:mm",
    **dict.fromkeys((32, 33), "hh:mm:ss"),
    **dict.fromkeys((34, 35, 55, 56), "yyyy-mm-dd"),
}
_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|_(?P<space>.)|\*.|\[(?P<bracket>[^\]]*)\]'
    r"|(?P<ampm>AM/PM|A/P)|(?P<exponent>E[+-](?=0|#))|(?P<date>y+|m+|d+|h+|s+(?:\.0+)?|e+|g+|b+)"
    r"|(?P<digit>[0#?])|(?P<other>.)",
    re.IGNORECASE | re.DOTALL,
)
_CONDITION = re.compile(r"(<=|>=|<>|<|>|=)\s*(-?\d+(?:\.\d+)?)")
_MAX_CODE_CHARS = 256
_MAX_DECIMALS = 30
_LAST_DAY = 2_958_466  # 9999-12-31 is the day before
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True, slots=True)
class _Token:
    """`kind` is "text", "digit", "date", "elapsed", "ampm", "exponent", "general" or a sign."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class _Section:
    tokens: tuple[_Token, ...]
    condition: tuple[str, float] | None
    is_foreign: bool  # names of months are in another language than ours

    def has(self, *kinds: str) -> bool:
        return any(token.kind in kinds for token in self.tokens)


def shown(stored: str, code: str, *, since_1904: bool = False) -> str:
    """The number `stored` under the format `code`, and in brackets what that does not tell.

    A value that is no number, or a format that is not understood, gives `stored`.
    """
    try:
        value = float(stored)
    except ValueError:
        return stored
    plain = format(value, ".15g")
    if not math.isfinite(value) or len(code) > _MAX_CODE_CHARS:
        return plain
    sections = _sections(code)
    section, is_negative_own = _chosen(sections, value)
    if section is None or section.has("general"):
        return plain if len(stored) > 15 else stored
    if section.has("date", "elapsed"):
        return _date(value, section, since_1904=since_1904) or plain
    if section.has("/"):
        return plain
    try:
        text = _number(Decimal(plain), section, is_unsigned=is_negative_own)
    except InvalidOperation:
        return plain
    text = " ".join(text.split())
    return text if text and has_same_digits(text, plain) else f"{text} [{plain}]".lstrip()


def is_date_format(code: str) -> bool:
    """Whether a number format shows a date or a time; "General" and "0.00" do not."""
    first = next(iter(_sections(code[:_MAX_CODE_CHARS])))
    return not first.has("general") and first.has("date", "elapsed")


def has_same_digits(text: str, stored: str) -> bool:
    """Whether a display has all the digits of the number it stands for, in whatever script."""
    return _significant(text) == _significant(stored)


def iso_date(days: float, *, since_1904: bool) -> str:
    """A serial date as ISO 8601: a date, a time when below one day; "" when it is neither."""
    moment = _moment(days, since_1904=since_1904)
    if moment is None:
        return ""
    if days < 1 and not since_1904:
        return f"{moment:%H:%M:%S}"
    # strftime writes the year 900 with three digits on some platforms.
    day = moment.date().isoformat()
    return day if not (moment.hour or moment.minute or moment.second) else moment.isoformat()


def _significant(text: str) -> str:
    text = re.sub(r"[eE][-+]?\d+$", "", text)
    return "".join(letter for letter in text if letter.isdigit()).strip("0")


@lru_cache(maxsize=512)
def _sections(code: str) -> tuple[_Section, ...]:
    sections: list[_Section] = []
    tokens: list[_Token] = []
    condition: tuple[str, float] | None = None
    is_foreign = False
    for match in _TOKEN.finditer(f"{code};"):
        kind, text = match.lastgroup or "", match[0]
        if kind == "other" and text == ";":
            sections.append(_Section(tuple(_resolved(tokens)), condition, is_foreign))
            tokens, condition, is_foreign = [], None, False
        elif kind in {"quoted", "escaped"}:
            tokens.append(_Token("text", match[kind]))
        elif kind == "space":
            tokens.append(_Token("text", " "))
        elif kind == "bracket":
            inside = match["bracket"]
            if found := _CONDITION.fullmatch(inside):
                condition = (found[1], float(found[2]))
            elif inside.startswith("$"):
                symbol, _, locale = inside[1:].partition("-")
                tokens.append(_Token("text", symbol))
                is_foreign |= bool(locale) and locale[-2:].upper() != "09"
            elif inside and set(inside.lower()) in ({"h"}, {"m"}, {"s"}):
                tokens.append(_Token("elapsed", inside.lower()))
        elif kind in {"digit", "exponent", "ampm"}:
            tokens.append(_Token(kind, text))
        elif kind == "date":
            tokens.append(_Token("date", text.lower()))
        elif kind == "other":
            kind = text if text in ".,%/@" else "text"
            tokens.append(_Token(kind, text))
    if tokens or not sections:  # an escape at the end takes our own semicolon
        sections.append(_Section(tuple(_resolved(tokens)), condition, is_foreign))
    return tuple(sections)


def _resolved(tokens: list[_Token]) -> Iterator[_Token]:
    """ "General" is a word of letters that dates use; and m beside h or s is minutes."""
    word = "".join(token.text for token in tokens if token.kind in {"text", "date", "."})
    if "general" in word.lower():
        yield _Token("general", "")
        return
    dates = [at for at, token in enumerate(tokens) if token.kind in {"date", "elapsed"}]
    minutes = set()
    for place, at in enumerate(dates):
        before = tokens[dates[place - 1]].text[0] if place else ""
        after = tokens[dates[place + 1]].text[0] if place + 1 < len(dates) else ""
        if tokens[at].text[0] == "m" and (before == "h" or after == "s"):
            minutes.add(at)
    for at, token in enumerate(tokens):
        yield (
            _Token("date", f"n{token.text[1:]}")
            if at in minutes and token.kind == "date"
            else token
        )


def _chosen(sections: tuple[_Section, ...], value: float) -> tuple[_Section | None, bool]:
    """The section for `value`, and whether it says itself that a number is negative."""
    if any(section.condition for section in sections[:2]):
        for section in sections[:3]:
            if section.condition is None or _holds(value, section.condition):
                return section, False
        return None, False
    if value < 0 and len(sections) > 1:
        return sections[1], True
    if value == 0 and len(sections) > 2:
        return sections[2], False
    return sections[0], False


def _holds(value: float, condition: tuple[str, float]) -> bool:
    sign, limit = condition
    return {
        "<": value < limit,
        "<=": value <= limit,
        ">": value > limit,
        ">=": value >= limit,
        "=": value == limit,
        "<>": value != limit,
    }[sign]


def _number(value: Decimal, section: _Section, *, is_unsigned: bool) -> str:
    tokens = section.tokens
    if not section.has("digit"):
        text = "".join(token.text for token in tokens if token.kind in {"text", "%", ",", "."})
        return text if text.strip() or not section.has("@") else str(value)
    first = next(at for at, token in enumerate(tokens) if token.kind == "digit")
    last = max(at for at, token in enumerate(tokens) if token.kind == "digit")
    exponent = next((at for at, token in enumerate(tokens) if token.kind == "exponent"), None)
    end = last if exponent is None else exponent - 1
    point = next((at for at in range(first, end + 1) if tokens[at].kind == "."), None)
    if point is None and first and tokens[first - 1].kind == ".":
        point, first = first - 1, first - 1
    whole = range(first, end + 1 if point is None else point)
    decimals = () if point is None else range(point + 1, end + 1)
    num_whole = sum(tokens[at].text == "0" for at in whole)
    places = [tokens[at].text for at in decimals if tokens[at].kind == "digit"][:_MAX_DECIMALS]
    has_thousands = any(tokens[at].kind == "," for at in whole)
    scale = 0
    while (at := end + 1 + scale) < len(tokens) and tokens[at].kind == ",":
        scale += 1
    with localcontext() as context:
        context.prec = 400
        value = value.scaleb(2 * sum(token.kind == "%" for token in tokens) - 3 * scale)
        power = 0
        if exponent is not None and value:
            power = value.adjusted() - max(num_whole, 1) + 1
            value = value.scaleb(-power)
        value = value.quantize(Decimal(1).scaleb(-len(places)), ROUND_HALF_UP)
    sign, digits, _ = value.as_tuple()
    text = "".join(map(str, digits)).rjust(len(places) + 1, "0")
    units, rest = text[: len(text) - len(places)], text[len(text) - len(places) :]
    while rest and places and places[-1] != "0" and rest[-1] == "0":
        rest, places = rest[:-1], places[:-1]
    units = units.lstrip("0").rjust(num_whole, "0")
    body = _filled(units, [tokens[at] for at in whole], has_thousands=has_thousands)
    body += f".{rest}" if rest else ""
    if exponent is not None:
        width = sum(token.kind == "digit" for token in tokens[exponent:])
        mark = "-" if power < 0 else "+" if tokens[exponent].text[-1] == "+" else ""
        body += f"E{mark}{abs(power):0{width}d}"
    literal = {"text", "%"}
    before = "".join(token.text for token in tokens[:first] if token.kind in literal)
    after = "".join(token.text for token in tokens[last + 1 :] if token.kind in literal)
    minus = "-" if sign and not is_unsigned and any(digits) else ""
    return f"{minus}{before}{body}{after}"


def _filled(units: str, places: list[_Token], *, has_thousands: bool) -> str:
    """The digits from the right into their places; what is between the places stays there."""
    if has_thousands:
        return f"{int(units):,}".rjust(len(units), "0") if units else ""
    pieces: list[str] = []
    left = units
    num_places = sum(token.kind == "digit" for token in places)
    for token in reversed(places):
        if token.kind == "digit":
            num_places -= 1
            # The first place takes all that is left.
            taken = left if num_places == 0 else left[-1:]
            left = left[: len(left) - len(taken)]
            pieces.append(taken)
        elif left:
            pieces.append(token.text)
    return "".join(reversed(pieces))


def _moment(days: float, *, since_1904: bool) -> datetime | None:
    if not 0 <= days < _LAST_DAY:
        return None
    # 1900 was no leap year; the serial numbers of Lotus, and so of Excel, say it was.
    epoch = datetime(1904, 1, 1) if since_1904 else datetime(1899, 12, 30 if days >= 60 else 31)
    try:
        return epoch + timedelta(seconds=round(days * 86400))
    except OverflowError:
        return None


def _date(days: float, section: _Section, *, since_1904: bool) -> str:
    if section.has("elapsed"):
        return _elapsed(days, section)
    moment = _moment(days, since_1904=since_1904)
    if moment is None:
        return ""
    letters = [token.text for token in section.tokens if token.kind == "date"]
    if any(text[0] in "egb" for text in letters):
        return iso_date(days, since_1904=since_1904)
    is_half_day = section.has("ampm")
    text = "".join(_date_piece(token, moment, is_half_day) for token in section.tokens)
    text = " ".join(text.split())
    return (
        text
        if _tells(letters, days, moment, section.is_foreign)
        else (f"{text} [{iso_date(days, since_1904=since_1904)}]")
    )


def _tells(letters: list[str], days: float, moment: datetime, is_foreign: bool) -> bool:
    """Whether a display with these parts leaves nothing of the moment in doubt."""
    kinds = "".join(dict.fromkeys(text[0] for text in letters))
    has_clock = bool(moment.hour or moment.minute or moment.second)
    if has_clock and not ("h" in kinds and "n" in kinds and ("s" in kinds or not moment.second)):
        return False
    if days < 1 and not set(kinds) & set("ymd"):
        return True
    day = next((text for text in letters if text[0] == "d" and len(text) < 3), "")
    month = next((text for text in letters if text[0] == "m"), "")
    year = next((text for text in letters if text[0] == "y"), "")
    if not day or not month or len(year) < 3:
        return False
    order = [kind for kind in kinds if kind in "ymd"]
    return not is_foreign if len(month) > 2 else order == ["y", "m", "d"]


def _date_piece(token: _Token, moment: datetime, is_half_day: bool) -> str:
    size = len(token.text)
    if token.kind == "ampm":
        half = "AM" if moment.hour < 12 else "PM"
        return half if size > 3 else half[0]
    if token.kind != "date":
        return token.text if token.kind not in {"digit", "@"} else ""
    match token.text[0]:
        case "y":
            return f"{moment.year:04}" if size > 2 else f"{moment.year % 100:02}"
        case "m" if size > 2:
            name = _MONTHS[moment.month - 1]
            return name if size == 4 else name[: 1 if size == 5 else 3]
        case "d" if size > 2:
            name = _DAYS[moment.weekday()]
            return name if size > 3 else name[:3]
        case "h":
            hour = (moment.hour + 11) % 12 + 1 if is_half_day else moment.hour
            return f"{hour:0{min(size, 2)}}"
        case letter:
            size = min(len(token.text.partition(".")[0]), 2)
            number = {"m": moment.month, "d": moment.day, "n": moment.minute, "s": moment.second}
            return f"{number[letter]:0{size}}"


def _elapsed(days: float, section: _Section) -> str:
    seconds = round(abs(days) * 86400)
    sign = "-" if days < 0 else ""
    pieces = []
    for token in section.tokens:
        if token.kind == "elapsed":
            unit = {"h": 3600, "m": 60, "s": 1}[token.text[0]]
            pieces.append(f"{seconds // unit:0{len(token.text)}}")
        elif token.kind == "date":
            value = seconds // 60 % 60 if token.text[0] in "nm" else seconds % 60
            pieces.append(f"{value:0{min(len(token.text), 2)}}")
        elif token.kind in {"text", "."}:
            pieces.append(token.text)
    return sign + "".join(pieces)
