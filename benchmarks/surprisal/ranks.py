"""Where each seeded bug stands among the lines of its piece, by any way of scoring lines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.quality.stats import Estimate, bootstrap_mean, wilson
from benchmarks.surprisal.pieces import Bug, Piece
from mm1cli.surprisal.lines import FileTokens, Floats, Recipe, score_lines

TOPS = (0.01, 0.05, 0.10)
RECIPES = tuple(
    Recipe(measure, normal, over)
    for measure in ("nats", "unexpected", "margin")
    for normal in ("raw", "centred", "scaled")
    for over in ("mean", "max", "top3", "sum")
)
LENGTH, RANDOM = "line length", "random"

Lines = tuple[Sequence[int], Floats]  # numbers of the ranked lines, and their scores


@dataclass(frozen=True, slots=True)
class Standing:
    """The bug's `rank` among `num_lines`, 1 the most surprising; the mean rank where lines tie."""

    kind: str
    source: str
    rank: float
    num_lines: int

    def is_in(self, top: float) -> bool:
        return self.rank <= top * self.num_lines

    @property
    def percentile(self) -> float:
        """The share of other lines it stands above, ties half: 0.5 is chance."""
        return (self.num_lines - self.rank) / max(self.num_lines - 1, 1)


def by_recipe(tokens: FileTokens, recipe: Recipe) -> Lines:
    (found,) = score_lines([tokens], recipe)
    return [int(line) for line in found.lines], found.scores


def by_length(piece: Piece, text: str, lines: Sequence[int]) -> Lines:
    """Characters of each of `lines`, indentation excluded."""
    split = text.split("\n")
    sizes = [len(split[line - piece.first].strip()) for line in lines]
    return lines, np.array(sizes, np.float32)


def standings(piece: Piece, lines: Lines, *, with_bugs: bool) -> list[Standing]:
    """One for each bug; the lines of the other bugs are left out of its ranking."""
    numbers, scores = np.array(lines[0]), lines[1]
    places = {_line(bug, with_bugs) for bug in piece.bugs}
    found = []
    for bug in piece.bugs:
        own = scores[numbers == _line(bug, with_bugs)]
        if not len(own):
            raise ValueError(f"{piece.path}: line {_line(bug, with_bugs)} has a bug and no score")
        others = scores[~np.isin(numbers, list(places))]
        rank = 1 + np.sum(others > own[0]) + np.sum(others == own[0]) / 2
        found.append(Standing(bug.kind, piece.source, float(rank), len(others) + 1))
    return found


def _line(bug: Bug, with_bugs: bool) -> int:
    return bug.line if with_bugs else bug.original_line


def measures(found: Sequence[Standing], seed: int) -> dict[str, Estimate]:
    """Shares in the tops with Wilson's intervals, and the mean percentile with a bootstrap's."""
    shares = {
        f"top {top:.0%}": wilson(sum(one.is_in(top) for one in found), len(found)) for top in TOPS
    }
    mean = bootstrap_mean([one.percentile for one in found], seed, "score")
    return shares | {"mean percentile": mean}


def chance(found: Sequence[Standing]) -> dict[str, str]:
    """What a random order gives: exact, and under 1 % where there are fewer than 100 lines."""
    shares = {}
    for top in TOPS:
        expected = np.mean([int(top * one.num_lines) / one.num_lines for one in found])
        shares[f"top {top:.0%}"] = f"{100 * float(expected):.1f}%"
    return shares | {"mean percentile": "0.50"}


def best(tuning: Mapping[str, Sequence[Standing]]) -> str:
    """The name that puts the most bugs of the tuning half into the three tops, all added up."""

    def key(name: str) -> tuple[float, float]:
        found = tuning[name]
        hits = sum(one.is_in(top) for one in found for top in TOPS)
        return hits, float(np.mean([one.percentile for one in found]))

    return max(sorted(tuning), key=key)
