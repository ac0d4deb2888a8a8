"""Tables and columns of a PDF page, where pdfium's order would lose what stands beside what.

pdfium's order is kept for all other text. Three things are put in another order: the cells of a
table with drawn lines, the cells of a table whose columns are only aligned, and prose in columns
that was drawn line by line across the gutter. A table is rows of cells with tabs between them, an
empty cell being nothing between two tabs.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from mm1cli.ingest.readers.pdf_aligned import aligned_regions
from mm1cli.ingest.readers.pdf_fractions import fraction_lines
from mm1cli.ingest.readers.pdf_gaps import has_gutter
from mm1cli.ingest.readers.pdf_ground import Box
from mm1cli.ingest.readers.pdf_headers import is_value
from mm1cli.ingest.readers.pdf_hidden import INVISIBLE, OFF_PAGE
from mm1cli.ingest.readers.pdf_letters import Letter, Piece, letters_of, pieces_of
from mm1cli.ingest.readers.pdf_raised import Run
from mm1cli.ingest.readers.pdf_rules import Grid, Rule
from mm1cli.ingest.readers.pdf_struck import strike
from mm1cli.ingest.readers.pdf_turned import turned_box

if TYPE_CHECKING:
    from pypdfium2 import PdfTextPage

_MOST_LETTERS = 60_000
_MOST_TEXTS = 10_000
_RTL_SHARE = 0.2
_FIRST_RIGHT_TO_LEFT = "\u0590"
_LAM_ALEF = re.compile("[\u0622\u0623\u0625\u0627]\u0644")


@dataclass(frozen=True, slots=True)
class _Region:
    """Letters by index that are read as `lines`, at the place of the first of them."""

    letters: frozenset[int]
    lines: tuple[str, ...]


def may_have_layout(boxes: Sequence[Box], ruled: Sequence[Grid]) -> bool:
    """Whether a look at each letter may find something; by the text objects and grids there are."""
    return bool(ruled) or has_gutter(boxes)


def is_crowded(text_page: "PdfTextPage", boxes: Sequence[Box]) -> bool:
    """Whether there is more on the page than a reader could see, and a look would take long."""
    return len(boxes) > _MOST_TEXTS or text_page.count_chars() > _MOST_LETTERS


def arranged(
    text_page: "PdfTextPage",
    marks: Mapping[int, str],
    ruled: Sequence[Grid],
    raised: Sequence[Run] = (),
    bars: Sequence[Rule] = (),
    struck: Sequence[Rule] = (),
    *,
    is_plain: bool = False,
    quarters: int = 0,
) -> list[tuple[str, str]]:
    """The page's text as (mark, text), what can be seen first, tables and columns put in order:
    those of the grids `ruled` and those that are only aligned.

    `raised` are the letters that have a sign, `bars` the lines of fractions, `struck` those through
    words. `is_plain` leaves pdfium's order. The letters are turned by so many `quarters`, as the
    lines are.
    """
    letters = letters_of(text_page, marks)
    if quarters:
        for letter in letters:
            letter.box = None if letter.box is None else turned_box(letter.box, quarters)
    for run in raised:
        letters[run.first].text = f"{run.sign}{{{letters[run.first].text}"
        letters[run.last].text += "}"
        for letter in letters[run.last + 1 : run.end]:
            letter.text = ""
    strike(letters, struck)
    if has_ligatures("".join([letter.text for letter in letters])):
        _order_ligatures(letters)
    if is_plain or _is_right_to_left(letters):
        return _texts(letters, [])
    pieces = pieces_of(letters)
    regions = list(_ruled(letters, pieces, ruled))
    taken = {at for region in regions for at in region.letters}
    for find in (partial(fraction_lines, rules=bars), aligned_regions):
        left = [piece for piece in pieces if piece.first not in taken]
        for used, lines in find(left):
            regions.append(_Region(_all_letters(used), tuple(lines)))
            taken |= regions[-1].letters
    return _texts(letters, regions)


def has_ligatures(text: str) -> bool:
    """Whether letters may be one glyph whose order pdfium has turned round."""
    return _LAM_ALEF.search(text) is not None


def _order_ligatures(letters: Sequence[Letter]) -> None:
    """Lam and alef that are drawn as one glyph come the wrong way round, in the same box."""
    for one, other in pairwise(letters):
        is_one_glyph = one.box is not None and one.box == other.box
        if is_one_glyph and has_ligatures(one.text + other.text):
            one.text, other.text = other.text, one.text


def _ruled(
    letters: Sequence[Letter], pieces: Sequence[Piece], ruled: Sequence[Grid]
) -> Iterator[_Region]:
    for grid in ruled:
        cells: dict[tuple[int, int], list[str]] = {}
        used: list[int] = []
        for piece in pieces:
            for first, last in _by_cell(letters, piece, grid):
                box = letters[first].box
                assert box is not None
                cell = grid.cell((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
                if cell is not None:
                    text = "".join(one.text for one in letters[first : last + 1] if not one.mark)
                    cells.setdefault(cell, []).append(" ".join(text.split()))
                    used += range(first, last + 1)
        columns = range(len(grid.across) - 1)
        rows = [
            [" ".join(cells.get((row, column), ())) for column in columns]
            for row in range(len(grid.down) - 1)
        ]
        if sum(sum(map(bool, row)) > 1 for row in rows) > 1:
            lines = ("\t".join(row).rstrip() for row in _with_one_header(rows, grid))
            yield _Region(frozenset(used), tuple(filter(None, lines)))


def _with_one_header(rows: list[list[str]], grid: Grid) -> list[list[str]]:
    """Names over several columns are joined to the name of each column below them."""
    if len(rows) < 3 or any(is_value(text) for text in (*rows[0], *rows[1])):
        return rows
    columns = range(len(rows[0]))
    spans = {grid.root[0][at] for at in columns[1:] if grid.root[0][at] == grid.root[0][at - 1]}
    below = [at for at in columns if grid.root[0][at] in spans and rows[1][at]]
    if len(below) < 2:
        return rows
    header = []
    for at in columns:
        upper = grid.root[0][at]
        names = [rows[upper[0]][upper[1]]]
        if grid.root[1][at] != upper:
            names.append(rows[1][at])
        header.append(" ".join(filter(None, names)))
    return [header, *rows[2:]]


def _by_cell(letters: Sequence[Letter], piece: Piece, grid: Grid) -> Iterator[tuple[int, int]]:
    """The piece cut where it crosses a line of the grid."""
    start = before = piece.first
    now: tuple[int, int] | None = None
    for at in range(piece.first, piece.last + 1):
        box = letters[at].box
        if box is None or letters[at].text.isspace():
            continue
        cell = grid.cell((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        if at > piece.first and cell != now:
            yield start, before
            start = at
        now, before = cell, at
    yield start, before


def _all_letters(pieces: Sequence[Piece]) -> frozenset[int]:
    return frozenset(at for piece in pieces for at in range(piece.first, piece.last + 1))


def _texts(letters: Sequence[Letter], regions: Sequence[_Region]) -> list[tuple[str, str]]:
    if not regions and not any(letter.mark for letter in letters):
        return [("", "".join([letter.text for letter in letters]))]
    texts: dict[str, list[str]] = {"": [], INVISIBLE: [], OFF_PAGE: []}
    of = {at: number for number, region in enumerate(regions) for at in region.letters}
    given: set[int] = set()
    mark = ""
    is_inside = False
    for at, letter in enumerate(letters):
        if letter.box is not None and letter.mark != mark:
            if texts[letter.mark]:
                texts[letter.mark].append("\n")
            mark = letter.mark
        number = of.get(at)
        if number is None:
            # What pdfium adds between the letters of a table is not wanted.
            if not (is_inside and (letter.box is None or letter.text.isspace())):
                if is_inside:
                    is_inside = False
                    texts[""].append("\n")
                texts[mark].append(letter.text)
            continue
        is_inside = True
        if number not in given:
            given.add(number)
            if texts[""] and not texts[""][-1].endswith("\n"):
                texts[""].append("\n")
            texts[""].append("\n".join(regions[number].lines))
    return [(mark, "".join(found)) for mark, found in texts.items()]


def _is_right_to_left(letters: Sequence[Letter]) -> bool:
    if max("".join([one.text for one in letters]), default="") < _FIRST_RIGHT_TO_LEFT:
        return False
    kinds = [unicodedata.bidirectional(one.text) for one in letters if one.text.isalpha()]
    return sum(kind in {"R", "AL"} for kind in kinds) > _RTL_SHARE * max(len(kinds), 1)
