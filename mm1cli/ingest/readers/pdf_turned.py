"""Pages whose text runs up, down or upside down, as wide tables do: their boxes are turned in
quarters, clockwise, until it runs to the right, whatever the page's own rotation says."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mm1cli.ingest.readers.pdf_ground import Box
from mm1cli.ingest.readers.pdf_rules import Rule

if TYPE_CHECKING:
    from pypdfium2 import PdfTextPage

_SAMPLES = 60
_FURTHEST = 3.0  # from one letter of a word to the next, in sizes of the first


def may_be_turned(boxes: Sequence[Box], rotation: int) -> bool:
    """Whether most texts are taller than wide, or the page says that it is turned."""
    tall = sum(top - bottom > right - left for left, bottom, right, top in boxes)
    return rotation != 0 or tall * 2 > len(boxes) > 0


def quarters_of(text_page: "PdfTextPage") -> int:
    """How often to turn it: 0 to 3, by the way from letters to those after them."""
    count = text_page.count_chars()
    votes = Counter[int]()
    for index in range(0, count - 1, max(1, count // _SAMPLES)):
        if text_page.get_text_range(index, 2, errors="surrogatepass").strip().isalnum():
            one, other = (text_page.get_charbox(at, loose=True) for at in (index, index + 1))
            across = (other[0] + other[2] - one[0] - one[2]) / 2
            up = (other[1] + other[3] - one[1] - one[3]) / 2
            size = max(one[2] - one[0], one[3] - one[1])
            if 0 < max(abs(across), abs(up)) <= _FURTHEST * size:
                is_level = abs(across) >= abs(up)
                votes[(0 if across > 0 else 2) if is_level else (1 if up > 0 else 3)] += 1
    return votes.most_common(1)[0][0] if votes else 0


def turned_box(box: Box, quarters: int) -> Box:
    left, bottom, right, top = box
    match quarters:
        case 1:
            return bottom, -right, top, -left
        case 2:
            return -right, -top, -left, -bottom
        case 3:
            return -top, left, -bottom, right
    return box


def turned_rule(rule: Rule, quarters: int) -> Rule:
    at, low, high = rule.at, rule.low, rule.high
    box = (at, low, at, high) if rule.is_upright else (low, at, high, at)
    left, bottom, right, top = turned_box(box, quarters)
    is_upright = rule.is_upright == (quarters % 2 == 0)
    return Rule(True, left, bottom, top) if is_upright else Rule(False, bottom, left, right)
