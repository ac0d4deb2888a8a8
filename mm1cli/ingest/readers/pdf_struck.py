"""Words of a PDF page that a line is drawn through: ~~500~~ 600."""

from collections.abc import Iterator, Sequence

from mm1cli.ingest.readers.pdf_ground import Box
from mm1cli.ingest.readers.pdf_letters import Letter
from mm1cli.ingest.readers.pdf_rules import Rule

_MIDDLE = (0.28, 0.56)  # of a letter's height, from its foot
_INSIDE = 0.15  # of the height of a text, from its foot and its top
_LONGEST_POINTS = 500.0
_MOST_RULES = 200  # of a page; more are drawings and tables
_MOST_TEXTS = 5_000
_OVERHANG = 1.5  # of the line beyond its letters, in heights of the last


def struck_rules(boxes: Sequence[Box], rules: Sequence[Rule]) -> list[Rule]:
    """The lines that may run through text, by the boxes of the page's text objects alone."""
    level = [one for one in rules if not one.is_upright and one.high - one.low <= _LONGEST_POINTS]
    if len(level) > _MOST_RULES or len(boxes) > _MOST_TEXTS:
        return []
    return [rule for rule in level if any(_touches(rule, box) for box in boxes)]


def strike(letters: Sequence[Letter], rules: Sequence[Rule]) -> None:
    """Puts the signs around the letters that `rules` run through."""
    for rule in rules:
        crossed = [
            at
            for at, letter in enumerate(letters)
            if letter.box is not None and _crosses(rule, letter.box)
        ]
        for first, last in _runs(letters, crossed):
            box = letters[last].box
            if box is not None and rule.high - box[2] <= _OVERHANG * (box[3] - box[1]):
                letters[first].text = f"~~{letters[first].text}"
                letters[last].text += "~~"


def _touches(rule: Rule, box: Box) -> bool:
    left, bottom, right, top = box
    height = top - bottom
    is_inside = bottom + _INSIDE * height <= rule.at <= top - _INSIDE * height
    return is_inside and rule.low < right and left < rule.high


def _crosses(rule: Rule, box: Box) -> bool:
    left, bottom, right, top = box
    low, high = (bottom + share * (top - bottom) for share in _MIDDLE)
    return low <= rule.at <= high and rule.low <= (left + right) / 2 <= rule.high


def _runs(letters: Sequence[Letter], crossed: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of the letters that follow each other, but for blanks; two at least."""
    first = last = -1
    for at in crossed:
        is_next = first >= 0 and all(one.box is None for one in letters[last + 1 : at])
        if not is_next:
            if last > first:
                yield first, last
            first = at
        last = at
    if last > first:
        yield first, last
