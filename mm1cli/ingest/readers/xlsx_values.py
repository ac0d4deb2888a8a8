"""What the cells of a workbook hold: shared strings, and numbers that a style makes dates."""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta

from mm1cli.ingest.readers.markup import (
    Element,
    attribute,
    child,
    children,
    local_name,
    number,
    stream_xml,
)
from mm1cli.ingest.readers.package import Package

# ECMA-376 part 1, 18.8.30, with the ones for East Asian locales.
_DATE_FORMATS = frozenset({*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)})
_QUOTED = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?!h+\]|m+\]|s+\])[^\]]*\]', re.IGNORECASE)
_DATE_LETTERS = re.compile(r"[dmyhs]", re.IGNORECASE)
_ELAPSED = re.compile(r"\[(h+|m+|s+)\]", re.IGNORECASE)
_LAST_DAY = 2_958_466  # 9999-12-31 is the day before


def shared_strings(package: Package, parts: Iterable[str]) -> list[str]:
    """By index. Phonetic guides are left out. Raises ReadError."""
    return [rich_text(item) for part in parts for item in stream_xml(package.stream(part), "si")]


def rich_text(element: Element) -> str:
    pieces = []
    for inner in element:
        name = local_name(inner)
        if name == "t":
            pieces.append(inner.text or "")
        elif name == "r":
            pieces += [text.text or "" for text in children(inner, "t")]
    return "".join(pieces)


def is_date_format(code: str) -> bool:
    """Whether a number format shows a date or a time; "General" and "0.00" do not."""
    section = _QUOTED.sub("", code.split(";")[0])
    return "general" not in section.lower() and bool(_DATE_LETTERS.search(section))


class Styles:
    """Which cell styles, by index, make a number a date, and which a time that has passed."""

    def __init__(self, root: Element | None) -> None:
        self._dates: set[int] = set()
        self._elapsed: set[int] = set()
        if root is None:
            return
        formats = child(root, "numFmts")
        codes = {
            number(entry, "numFmtId"): attribute(entry, "formatCode")
            for entry in (() if formats is None else formats)
        }
        styles = child(root, "cellXfs")
        for index, style in enumerate(() if styles is None else styles):
            key = number(style, "numFmtId")
            code = codes.get(key)
            if is_date_format(code) if code is not None else key in _DATE_FORMATS:
                self._dates.add(index)
                if key == 46 or (code is not None and _ELAPSED.search(code)):
                    self._elapsed.add(index)

    def shown(self, value: str, style: int, *, since_1904: bool) -> str:
        """A number as text: a date as ISO 8601, any other as stored, to 15 digits."""
        try:
            parsed = float(value)
        except ValueError:
            return value
        if style in self._elapsed:
            return _elapsed(parsed)
        if style in self._dates and (date := iso_date(parsed, since_1904=since_1904)):
            return date
        return format(parsed, ".15g") if len(value) > 15 else value


def iso_date(days: float, *, since_1904: bool) -> str:
    """A serial date as ISO 8601: a date, a time when below one day; "" when it is neither."""
    if not 0 <= days < _LAST_DAY:
        return ""
    # 1900 was no leap year; the serial numbers of Lotus, and so of Excel, say it was.
    epoch = datetime(1904, 1, 1) if since_1904 else datetime(1899, 12, 30 if days >= 60 else 31)
    moment = epoch + timedelta(seconds=round(days * 86400))
    if days < 1 and not since_1904:
        return f"{moment:%H:%M:%S}"
    # strftime writes the year 900 with three digits on some platforms.
    day = moment.date().isoformat()
    return day if not (moment.hour or moment.minute or moment.second) else moment.isoformat()


def _elapsed(days: float) -> str:
    seconds = round(abs(days) * 86400)
    sign = "-" if days < 0 else ""
    return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
