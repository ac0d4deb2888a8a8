"""The numbers that Word puts before paragraphs: "3.2", "(a)". They are nowhere in the text."""

import re
from dataclasses import dataclass

from mm1cli.ingest.readers.markup import Element, attribute, child, children, number

_NUM_LEVELS = 9
_PLACE = re.compile(r"%([1-9])")
_ROMAN = (
    *((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l")),
    *((40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i")),
)
_MAX_ROMAN = 3999


@dataclass(frozen=True, slots=True)
class _Level:
    format: str
    text: str
    start: int


class Numbering:
    """Counts as it is asked: paragraphs must come in document order."""

    def __init__(self, root: Element | None = None) -> None:
        self._levels: dict[str, dict[int, _Level]] = {}
        self._lists: dict[str, str] = {}
        self._starts: dict[str, dict[int, int]] = {}
        self._counts: dict[str, list[int]] = {}
        for entry in () if root is None else children(root, "abstractNum"):
            levels = {number(level, "ilvl"): _level(level) for level in children(entry, "lvl")}
            self._levels[attribute(entry, "abstractNumId")] = levels
        for entry in () if root is None else children(root, "num"):
            key = attribute(entry, "numId")
            self._lists[key] = _value(entry, "abstractNumId")
            self._starts[key] = {
                number(override, "ilvl"): number(start, "val", 1)
                for override in children(entry, "lvlOverride")
                if (start := child(override, "startOverride")) is not None
            }

    def next(self, key: str, level: int) -> str | None:
        """The number of the next paragraph of list `key` at `level`, "" for a bullet; None where
        there is no such list."""
        levels = self._levels.get(self._lists.get(key, ""), {})
        if level not in levels or not 0 <= level < _NUM_LEVELS:
            return None
        # Lists that share a definition count on, unless one says where it starts.
        starts = self._starts.get(key, {})
        counts = self._counts.setdefault(key if starts else f"of {self._lists[key]}", [])
        while len(counts) <= level:
            at = len(counts)
            start = starts.get(at, levels[at].start if at in levels else 1)
            counts.append(start - (at == level))
        del counts[level + 1 :]
        counts[level] += 1
        if levels[level].format == "bullet":
            return ""

        def shown(place: re.Match[str]) -> str:
            at = int(place[1]) - 1
            is_known = at in levels and at < len(counts)
            return _formatted(counts[at], levels[at].format) if is_known else ""

        return _PLACE.sub(shown, levels[level].text).strip() or None


def _level(level: Element) -> _Level:
    start = child(level, "start")
    return _Level(
        _value(level, "numFmt") or "decimal",
        _value(level, "lvlText")[:100],
        1 if start is None else number(start, "val", 1),
    )


def _value(element: Element, name: str) -> str:
    found = child(element, name)
    return "" if found is None else attribute(found, "val")


def _formatted(count: int, style: str) -> str:
    if style in {"lowerLetter", "upperLetter"} and 0 < count <= 26 * 20:
        repeats, letter = divmod(count - 1, 26)
        text = chr(ord("a") + letter) * (repeats + 1)
        return text.upper() if style == "upperLetter" else text
    if style in {"lowerRoman", "upperRoman"} and 0 < count <= _MAX_ROMAN:
        text = ""
        for value, letters in _ROMAN:
            repeats, count = divmod(count, value)
            text += letters * repeats
        return text.upper() if style == "upperRoman" else text
    if style == "none":
        return ""
    return f"{count:02}" if style == "decimalZero" else str(count)
