"""Whether a PDF page may have a table or columns, by the boxes of its text objects alone.

A look at each letter costs several times what pdfium's own text does, and most pages have nothing
to arrange. Those that may have: two rows of text, near to each other, with a wide gap above a wide
gap.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from mm1cli.ingest.readers.pdf_ground import Box

_MAX_ROWS_BETWEEN = 4  # without a gap of their own
_MOST_GAPS = 50  # of a row
_WIDE_SHARE = 1.0  # of the row's height
_SHARED = 0.5
_LEAST_HEIGHT = 4.0
_BULLET_WIDTH = 0.45  # of the row's height; a digit is wider
_LINE_WIDTH = 20.0  # in heights of the row: more than the words of a cell


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Boxes side by side; `first` and `last` in the order in which the page draws them."""

    left: float
    right: float
    first: int
    last: int


def has_gutter(boxes: Sequence[Box]) -> bool:
    """Whether two rows near to each other have a wide gap at the same place."""
    above: list[list[tuple[float, float]]] = []
    for row in _rows(boxes):
        height = max(_LEAST_HEIGHT, *(box[3] - box[1] for _, box in row))
        gaps = list(islice(_gaps(row, height), _MOST_GAPS))
        for left, right in gaps:
            for low, high in (gap for gaps_above in above for gap in gaps_above):
                if min(right, high) - max(left, low) >= _SHARED * height:
                    return True
        above = [*above[-_MAX_ROWS_BETWEEN:], gaps]
    return False


def _rows(boxes: Sequence[Box]) -> Iterator[list[tuple[int, Box]]]:
    """From the top down; what shares half of its height with a row's first box is in it."""
    row: list[tuple[int, Box]] = []
    for index, box in sorted(enumerate(boxes), key=lambda one: -(one[1][1] + one[1][3])):
        if row:
            first = row[0][1]
            if first[1] + first[3] - box[1] - box[3] > first[3] - first[1]:
                yield row
                row = []
        row.append((index, box))
    if row:
        yield row


def _gaps(row: Sequence[tuple[int, Box]], height: float) -> Iterator[tuple[float, float]]:
    """The wide gaps of a row, but not that behind the sign of a list's item, nor one between two
    lines of prose that are not drawn one after the other."""
    stretches: list[_Stretch] = []
    for index, (left, _, right, _) in sorted(row, key=lambda one: one[1][0]):
        last = stretches[-1] if stretches else None
        if last is None or left - last.right > _WIDE_SHARE * height:
            stretches.append(_Stretch(left, right, index, index))
        else:
            stretches[-1] = _Stretch(last.left, max(last.right, right), last.first, index)
    for at in range(1, len(stretches)):
        one, other = stretches[at - 1], stretches[at]
        is_bullet = at == 1 and one.right - one.left < _BULLET_WIDTH * height
        is_prose = min(one.right - one.left, other.right - other.left) > _LINE_WIDTH * height
        if not is_bullet and not (is_prose and other.first != one.last + 1):
            yield one.right, other.left
