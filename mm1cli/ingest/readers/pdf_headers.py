"""Headers of two rows in tables of a PDF page: a name over several columns goes before theirs."""

import re
from collections.abc import Sequence

from mm1cli.ingest.readers.pdf_letters import Piece

_DIGITS = re.compile(r"\W*\d[\d.,%]*\W*")
_YEAR = re.compile(r"(?:19|20)\d\d")
_OFF_CENTRE = 1.5  # in heights of the font

Span = tuple[float, float]


def is_value(text: str) -> bool:
    """Whether a cell is a number, and no name of a column as years are."""
    return _DIGITS.fullmatch(text) is not None and _YEAR.fullmatch(text) is None


def one_header(
    upper: Sequence[Piece], lower: Sequence[str], columns: Sequence[Span]
) -> list[str] | None:
    """The names of `columns`: those of `upper` over several, those of `lower` one by one.

    None unless a name stands over two columns or more that have names of their own.
    """
    if any(map(is_value, (*lower, *(piece.text for piece in upper)))):
        return None
    over = [list(_below(piece, columns)) for piece in upper]
    if not all(over) or not any(len(one) > 1 for one in over):
        return None
    for at, found in enumerate(over):
        if len(found) > 1:
            taken = {column for other in over[:at] + over[at + 1 :] for column in other}
            _widen(found, upper[at], columns, taken)
            if not all(lower[column] for column in found):
                return None
    for column in range(1, len(columns)):
        # A name that stands below another one, too, is told apart only by what is over it.
        beside = next((found for found in over if found[-1] == column - 1), None)
        claimed = {lower[at] for found in over if found is not beside for at in found}
        if beside and lower[column] in claimed and not any(column in found for found in over):
            beside.append(column)
    names = [""] * len(columns)
    for piece, found in zip(upper, over, strict=True):
        for column in found:
            names[column] = f"{names[column]} {piece.text}".strip()
    return [f"{name} {text}".strip() for name, text in zip(names, lower, strict=True)]


def _below(piece: Piece, columns: Sequence[Span]) -> range:
    """The columns that a piece stands over; those beside it where it stands over a gutter."""
    left, _, right, _ = piece.box
    first = sum(high < left for _, high in columns)
    end = sum(low <= right for low, _ in columns)
    if first == end and 0 < first < len(columns):
        return range(first - 1, first + 1)
    return range(first, end)


def _widen(found: list[int], piece: Piece, columns: Sequence[Span], taken: set[int]) -> None:
    """Adds the columns on both sides over whose middle the piece stands as well; the first column
    names the rows."""
    middle = (piece.box[0] + piece.box[2]) / 2
    while found[0] > 1 and found[-1] + 1 < len(columns):
        first, last = found[0] - 1, found[-1] + 1
        if taken & {first, last}:
            return
        if abs((columns[first][0] + columns[last][1]) / 2 - middle) > _OFF_CENTRE * piece.height:
            return
        found[:] = [first, *found, last]
