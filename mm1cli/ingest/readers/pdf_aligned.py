"""Pieces of lines that stand in columns without a drawn line: tables, and prose over a gutter."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from mm1cli.ingest.readers.pdf_headers import one_header
from mm1cli.ingest.readers.pdf_letters import Piece

_SAME_ROW_SHARE = 0.5
_MAX_LEADING = 2.2  # from one row to the next, in heights of the font
_TIGHT_LEADING = 1.2
_MAX_NARROW_ROWS = 3  # rows of one piece between rows of more
_MIN_ROWS = 2
_MIN_GUTTER = 0.6  # in heights of the font
_PROSE_SHARE = 0.6
_MAX_CELL_WORDS = 6
_MIN_SHARE_FILLED = 0.35
_MAX_COLUMNS = 40
_FULL_SHARE = 0.75  # of the width of a column
_MIN_RUNNING = 3  # lines
_MIN_PROSE_WORDS = 4  # in the mean, of a line
_FEWEST_FOR_SIDES = 16
_MIDDLE = 0.25  # of the width, from either side: where no gutter between columns of prose is
_MAX_CROSSING = 0.12
_PIECES_PER_CHANGE = 6


_BULLET = re.compile(r"[^\w\s$€£%+−=]{1,3}|o|\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,5})[.)]")


@dataclass(slots=True)
class _Row:
    """`middle` and `height` are the mean and the most of its pieces'."""

    pieces: list[Piece]
    middle: float
    height: float

    def add(self, piece: Piece) -> None:
        count = len(self.pieces)
        self.middle = (self.middle * count + piece.middle) / (count + 1)
        self.height = max(self.height, piece.height)
        self.pieces.append(piece)


def aligned_regions(pieces: Sequence[Piece]) -> Iterator[tuple[list[Piece], list[str]]]:
    """The pieces of each table or stretch of prose in columns, and its lines in order."""
    for side in _sides(pieces):
        rows = _rows(side)
        at = 0
        while at < len(rows):
            if len(rows[at].pieces) < 2:
                at += 1
                continue
            end = _end(rows, at)
            if at and _has_header_above(rows, at, end):
                at -= 1
            region = rows[at:end]
            if end - at >= _MIN_ROWS and (lines := _lines(region)) is not None:
                yield [piece for row in region for piece in row.pieces], lines
            at = end


def _sides(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """The page's two columns of prose, if it has two that pdfium reads one after the other."""
    if len(pieces) < _FEWEST_FOR_SIDES:
        return [list(pieces)]
    left, right = min(one.box[0] for one in pieces), max(one.box[2] for one in pieces)
    best: tuple[int, float] | None = None
    for edge in sorted({round(one.box[0]) for one in pieces if one.is_prose}):
        x = edge - 1.0
        if not left + _MIDDLE * (right - left) < x < right - _MIDDLE * (right - left):
            continue
        num_crossing = sum(one.box[0] < x < one.box[2] for one in pieces)
        if best is None or num_crossing < best[0]:
            best = (num_crossing, x)
    if best is None or best[0] > _MAX_CROSSING * len(pieces):
        return [list(pieces)]
    x = best[1]
    sides = [
        [one for one in pieces if one.box[2] <= x],
        [one for one in pieces if one.box[0] >= x],
    ]
    if all(_is_mostly_prose(side) for side in sides):
        order = sorted((one.first, at) for at, side in enumerate(sides) for one in side)
        num_changes = sum(before[1] != after[1] for before, after in pairwise(order))
        if num_changes <= len(pieces) / _PIECES_PER_CHANGE:
            return sides
    return [list(pieces)]


def _is_mostly_prose(pieces: Sequence[Piece]) -> bool:
    num_words = sum(len(one.text.split()) for one in pieces)
    in_prose = sum(len(one.text.split()) for one in pieces if one.is_prose)
    return bool(pieces) and in_prose >= _PROSE_SHARE * num_words


def _rows(pieces: Sequence[Piece]) -> list[_Row]:
    """From the top down, each from left to right."""
    rows: list[_Row] = []
    for piece in sorted(pieces, key=lambda piece: -piece.middle):
        row = rows[-1] if rows else None
        if row is not None and row.middle - piece.middle <= _SAME_ROW_SHARE * min(
            row.height, piece.height
        ):
            row.add(piece)
        else:
            rows.append(_Row([piece], piece.middle, piece.height))
    for row in rows:
        row.pieces.sort(key=lambda piece: piece.box[0])
        row.pieces = list(_with_bullets(row.pieces))
    return rows


def _with_bullets(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """The sign or number of a list's item is no cell beside it."""
    before: Piece | None = None
    for piece in pieces:
        if before is not None and _BULLET.fullmatch(before.text):
            box = (before.box[0], min(before.box[1], piece.box[1]), piece.box[2], piece.box[3])
            piece = Piece(before.first, piece.last, box, f"{before.text} {piece.text}")
        elif before is not None:
            yield before
        before = piece
    if before is not None:
        yield before


def _end(rows: Sequence[_Row], start: int) -> int:
    """The row after the last that keeps two columns apart with those above it."""
    spans = [(piece.box[0], piece.box[2]) for piece in rows[start].pieces]
    last_wide = start
    at = start
    while at + 1 < len(rows) and at - last_wide < _MAX_NARROW_ROWS:
        row = rows[at + 1]
        leading = rows[at].middle - row.middle
        if leading > _MAX_LEADING * max(row.height, rows[at].height):
            break
        joined = _columns([*spans, *((piece.box[0], piece.box[2]) for piece in row.pieces)])
        if len(_apart(joined, row.height)) < 2 or len(joined) * 2 < len(spans):
            break
        spans = joined
        at += 1
        if len(row.pieces) > 1:
            last_wide = at
    return last_wide + 1


def _columns(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans that overlap as one."""
    found: list[tuple[float, float]] = []
    for low, high in sorted(spans):
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found


def _apart(columns: Sequence[tuple[float, float]], height: float) -> list[tuple[float, float]]:
    """Columns without a gutter between them as one."""
    found: list[tuple[float, float]] = []
    for low, high in columns:
        if found and low - found[-1][1] < _MIN_GUTTER * height:
            found[-1] = (found[-1][0], high)
        else:
            found.append((low, high))
    return found


def _lines(rows: Sequence[_Row]) -> list[str] | None:
    """The region in the order it is to be read; None where pdfium's order is as good."""
    pieces = [piece for row in rows for piece in row.pieces]
    if sum(piece.is_fixed_pitch for piece in pieces) * 2 > len(pieces):
        return None
    if (header := _header(rows)) is not None:
        columns = _columns_of(rows[1:])
        cells = [[_in_column(row, column) for column in columns] for row in rows[2:]]
        if not _is_prose(cells, columns):
            return ["\t".join(header).rstrip(), *_table(rows[2:], cells)]
    columns = _columns_of(rows)
    if not 2 <= len(columns) <= _MAX_COLUMNS:
        return None
    cells = [[_in_column(row, column) for column in columns] for row in rows]
    if _is_prose(cells, columns):
        return _by_column(cells) if _is_interleaved(cells) else None
    if (at := _running_on(cells)) is not None:
        return list(_beside(rows, cells, at)) if _is_interleaved(cells) else None
    return _table(rows, cells) if _is_table(cells) else None


def _columns_of(rows: Sequence[_Row]) -> list[tuple[float, float]]:
    pieces = [piece for row in rows for piece in row.pieces]
    spans = _columns([(piece.box[0], piece.box[2]) for piece in pieces])
    return _apart(spans, median(piece.height for piece in pieces))


def _header(rows: Sequence[_Row]) -> list[str] | None:
    """The first two rows as one, if the first has names over several columns of the others."""
    if len(rows) < _MIN_ROWS + 2 or len(rows[0].pieces) >= len(rows[1].pieces):
        return None
    columns = _columns_of(rows[1:])
    if not 2 < len(columns) <= _MAX_COLUMNS:
        return None
    lower = [" ".join(piece.text for piece in _in_column(rows[1], one)) for one in columns]
    return one_header(rows[0].pieces, lower, columns)


def _has_header_above(rows: Sequence[_Row], at: int, end: int) -> bool:
    """Whether the one piece above a table is a name over some of its columns, and no title."""
    above = rows[at - 1]
    leading = above.middle - rows[at].middle
    if len(above.pieces) > 1 or leading > _MAX_LEADING * max(above.height, rows[at].height):
        return False
    first_right = min(piece.box[2] for row in rows[at:end] for piece in row.pieces[:1])
    return above.pieces[0].box[0] > first_right and _header(rows[at - 1 : end]) is not None


def _in_column(row: _Row, column: tuple[float, float]) -> list[Piece]:
    return [piece for piece in row.pieces if column[0] <= piece.box[0] <= column[1]]


def _is_prose(cells: list[list[list[Piece]]], columns: Sequence[tuple[float, float]]) -> bool:
    """Whether two columns or more are lines of words that fill their width."""
    num_prose = 0
    for at, (low, high) in enumerate(columns):
        found = [piece for row in cells for piece in row[at]]
        full = [one for one in found if one.is_prose and one.box[2] - one.box[0] > (high - low) / 2]
        num_prose += len(full) >= _PROSE_SHARE * len(found) and len(found) > 1
    return num_prose > 1


def _running_on(cells: list[list[list[Piece]]]) -> int | None:
    """A column whose lines go on from one to the next beside other text, as prose beside a callout
    does: full lines, and small letters after them. Lines of a table's cell have nothing beside."""
    for at in range(len(cells[0])):
        found = [(row[at], any(row[:at] + row[at + 1 :])) for row in cells if row[at]]
        right = max((line[-1].box[2] for line, _ in found), default=0.0)
        left = min((line[0].box[0] for line, _ in found), default=0.0)
        num_beside = num_on = num_words = 0
        for (above, _), (line, is_beside) in pairwise(found):
            is_full = above[-1].box[2] - left >= _FULL_SHARE * (right - left)
            num_beside += is_beside
            num_on += is_beside and is_full and line[0].text[:1].islower()
            num_words += sum(len(piece.text.split()) for piece in line)
        is_prose = num_words >= _MIN_PROSE_WORDS * (len(found) - 1)
        if is_prose and num_beside >= _MIN_RUNNING and num_on * 2 >= num_beside:
            return at
    return None


def _beside(rows: Sequence[_Row], cells: list[list[list[Piece]]], at: int) -> Iterator[str]:
    """What is left of column `at`, the column, and what is right of it."""
    for columns in (slice(0, at), slice(at, at + 1), slice(at + 1, None)):
        part = [row[columns] for row in cells]
        if len(part[0]) == 1:
            yield from _by_column(part)
        elif part[0]:
            yield from filter(None, _table(rows, part))


def _is_interleaved(cells: list[list[list[Piece]]]) -> bool:
    """Whether pdfium goes back and forth between the columns."""
    order = sorted(
        (piece.first, at) for row in cells for at, one in enumerate(row) for piece in one
    )
    changes = sum(before[1] != after[1] for before, after in pairwise(order))
    return changes >= len(cells)


def _by_column(cells: list[list[list[Piece]]]) -> list[str]:
    found = []
    for at in range(len(cells[0])):
        found += [" ".join(piece.text for piece in row[at]) for row in cells if row[at]]
    return found


def _is_table(cells: list[list[list[Piece]]]) -> bool:
    num_columns = len(cells[0])
    full = [row for row in cells if sum(map(bool, row)) > 1]
    if len(full) < _MIN_ROWS or (num_columns == 2 and len(full) < _MIN_ROWS + 1):
        return False
    filled = sum(bool(cell) for row in cells for cell in row)
    if filled < _MIN_SHARE_FILLED * num_columns * len(cells):
        return False
    short = 0
    for at in range(num_columns):
        words = [len(piece.text.split()) for row in cells for piece in row[at]]
        short += bool(words) and median(words) <= _MAX_CELL_WORDS
    return short == num_columns or (short == num_columns - 1 and _is_interleaved(cells))


def _table(rows: Sequence[_Row], cells: list[list[list[Piece]]]) -> list[str]:
    """Lines of cells; a line that only goes on with the cells above it is joined to them."""
    found: list[list[str]] = []
    for at, row in enumerate(cells):
        texts = [" ".join(piece.text for piece in cell) for cell in row]
        if found and not texts[0] and _goes_on(rows, at) and _fits_above(found[-1], texts):
            found[-1] = [
                " ".join(filter(None, pair)) for pair in zip(found[-1], texts, strict=True)
            ]
        else:
            found.append(texts)
    return ["\t".join(texts).rstrip() for texts in found]


def _goes_on(rows: Sequence[_Row], at: int) -> bool:
    """Whether a row stands closer to the one above it than rows of this table do."""
    leadings = [above.middle - below.middle for above, below in pairwise(rows)]
    own = leadings[at - 1]
    return own <= _TIGHT_LEADING * rows[at].height and own < 0.9 * max(leadings)


def _fits_above(above: list[str], texts: list[str]) -> bool:
    return all(before or not text for before, text in zip(above, texts, strict=True))
