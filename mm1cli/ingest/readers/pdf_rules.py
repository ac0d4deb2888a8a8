"""The lines that are drawn on a PDF page, and the grids they make: tables with borders.

A grid is cut into the smallest cells its lines allow; neighbours without a line between them are
one merged cell, whose text stands in the first of them.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mm1cli.ingest.readers.pdf_ground import Box

_THIN_POINTS = 3.0  # a rectangle no thicker is a line
_NEAR_POINTS = 3.0  # lines no further apart are one
_SHORTEST_POINTS = 6.0
_MOST_LINES = 4_000
_MOST_CELLS = 20_000
_COVERED_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Rule:
    """A straight line: `at` is its x if it is upright, else its y; it runs from `low` to `high`."""

    is_upright: bool
    at: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Grid:
    """Lines at `across` (x, ascending) and `down` (y, descending); `root[row][column]` is the first
    cell of the merged one that a cell belongs to."""

    across: Sequence[float]
    down: Sequence[float]
    root: Sequence[Sequence[tuple[int, int]]]

    @property
    def box(self) -> Box:
        return self.across[0], self.down[-1], self.across[-1], self.down[0]

    def cell(self, x: float, y: float) -> tuple[int, int] | None:
        """The merged cell at a point, None outside of the grid."""
        left, bottom, right, top = self.box
        if not (left <= x <= right and bottom <= y <= top):
            return None
        column = bisect_right(self.across, x, 1, len(self.across) - 1) - 1
        row = bisect_right(self.down, -y, 1, len(self.down) - 1, key=lambda line: -line) - 1
        return self.root[row][column]


def rules_of(box: Box, *, is_stroked: bool) -> Iterator[Rule]:
    """The lines that a rectangle shows: itself where it is thin, else its four sides."""
    left, bottom, right, top = box
    width, height = right - left, top - bottom
    if height <= _THIN_POINTS < _SHORTEST_POINTS <= width:
        yield Rule(False, (bottom + top) / 2, left, right)
    elif width <= _THIN_POINTS < _SHORTEST_POINTS <= height:
        yield Rule(True, (left + right) / 2, bottom, top)
    elif is_stroked and min(width, height) >= _SHORTEST_POINTS:
        yield from (Rule(False, y, left, right) for y in (bottom, top))
        yield from (Rule(True, x, bottom, top) for x in (left, right))


def grids(rules: Sequence[Rule]) -> Iterator[Grid]:
    """Those of at least two rows and two columns."""
    if len(rules) > _MOST_LINES:
        return
    for group in _touching(_joined(rules)):
        across = [rule for rule in group if rule.is_upright]
        down = [rule for rule in group if not rule.is_upright]
        xs = _places(across, down)
        ys = _places(down, across)[::-1]
        if len(xs) > 2 and len(ys) > 2 and len(xs) * len(ys) <= _MOST_CELLS:
            yield Grid(xs, ys, _merged(xs, ys, across, down))


def _joined(rules: Iterable[Rule]) -> list[Rule]:
    """Pieces of one line as one."""
    found: list[Rule] = []
    for rule in sorted(rules, key=lambda rule: (rule.is_upright, round(rule.at), rule.low)):
        last = found[-1] if found else None
        if (
            last is not None
            and last.is_upright == rule.is_upright
            and abs(last.at - rule.at) <= 1
            and rule.low <= last.high + _NEAR_POINTS
        ):
            high = max(last.high, rule.high)
            found[-1] = Rule(rule.is_upright, last.at, min(last.low, rule.low), high)
        else:
            found.append(rule)
    return [rule for rule in found if rule.high - rule.low >= _SHORTEST_POINTS]


def _touching(rules: list[Rule]) -> Iterator[list[Rule]]:
    """Groups of lines that meet, each with lines of both directions."""
    level = [rule for rule in rules if not rule.is_upright]
    upright = [rule for rule in rules if rule.is_upright]
    left = set(range(len(upright)))
    taken: set[int] = set()
    for start in range(len(level)):
        if start in taken:
            continue
        taken.add(start)
        group, waiting = [level[start]], [level[start]]
        while waiting:
            rule = waiting.pop()
            if rule.is_upright:
                met = [at for at in range(len(level)) if at not in taken and _meet(level[at], rule)]
                taken.update(met)
                found = [level[at] for at in met]
            else:
                met = [at for at in left if _meet(rule, upright[at])]
                left.difference_update(met)
                found = [upright[at] for at in met]
            group += found
            waiting += found
        if len(group) > 1:
            yield group


def _meet(level: Rule, upright: Rule) -> bool:
    return (
        level.low - _NEAR_POINTS <= upright.at <= level.high + _NEAR_POINTS
        and upright.low - _NEAR_POINTS <= level.at <= upright.high + _NEAR_POINTS
    )


def _places(rules: Iterable[Rule], crossing: Sequence[Rule]) -> list[float]:
    """Where the lines are, and where those across them end: a table may be open at its sides."""
    ats = sorted(rule.at for rule in rules)
    lows, highs = sorted(rule.low for rule in crossing), sorted(rule.high for rule in crossing)
    # An end that most lines have in common is a side without a line of its own.
    low, high = lows[len(lows) // 2], highs[len(highs) // 2]
    if low < ats[0] - _SHORTEST_POINTS:
        ats.insert(0, low)
    if high > ats[-1] + _SHORTEST_POINTS:
        ats.append(high)
    found: list[float] = []
    for at in ats:
        if not found or at - found[-1] > _NEAR_POINTS:
            found.append(at)
    return found


def _merged(
    xs: Sequence[float], ys: Sequence[float], across: Sequence[Rule], down: Sequence[Rule]
) -> list[list[tuple[int, int]]]:
    upright = [[rule for rule in across if abs(rule.at - x) <= _NEAR_POINTS] for x in xs]
    level = [[rule for rule in down if abs(rule.at - y) <= _NEAR_POINTS] for y in ys]
    root: list[list[tuple[int, int]]] = []
    for row in range(len(ys) - 1):
        root.append([])
        for column in range(len(xs) - 1):
            cell = (row, column)
            if column and not _is_covered(upright[column], ys[row + 1], ys[row]):
                cell = root[row][column - 1]
            elif row and not _is_covered(level[row], xs[column], xs[column + 1]):
                cell = root[row - 1][column]
            root[row].append(cell)
    return root


def _is_covered(rules: Sequence[Rule], low: float, high: float) -> bool:
    covered = sum(max(0.0, min(rule.high, high) - max(rule.low, low)) for rule in rules)
    return covered >= _COVERED_SHARE * (high - low)
