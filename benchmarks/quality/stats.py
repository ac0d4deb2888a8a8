"""Error bars: Wilson for shares, bootstrap over items for everything else, both 95 %."""

import math
import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import TypeVar

Z = 1.959963984540054  # the normal distribution's 97.5 % point
RESAMPLES = 1000

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured `value` of `num` items with the interval [`low`, `high`].

    `unit` is "share", "nats", "ppl" or "score" and decides how it is written.
    """

    value: float
    low: float
    high: float
    num: int
    unit: str

    def __str__(self) -> str:
        if self.unit == "share":
            return f"{self.value:.0%} [{self.low * 100:.0f}, {self.high * 100:.0f}] of {self.num}"
        digits = 3 if self.unit == "nats" else 2
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def wilson(successes: int, num: int) -> Estimate:
    """A share and its score interval (Wilson 1927). Raises ValueError without a trial."""
    if num < 1:
        raise ValueError("a share needs at least one trial")
    share, z2 = successes / num, Z * Z
    centre = (share + z2 / (2 * num)) / (1 + z2 / num)
    half = Z / (1 + z2 / num) * math.sqrt(share * (1 - share) / num + z2 / (4 * num * num))
    low, high = max(centre - half, 0.0), min(centre + half, 1.0)
    # Rounding must not put the estimate outside its own interval.
    return Estimate(share, min(low, share), max(high, share), num, "share")


def normal_mean(values: Sequence[float], unit: str) -> Estimate:
    """A mean over blocks, plus or minus 1.96 standard errors; no interval from one block."""
    value = fmean(values)
    half = Z * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return Estimate(value, value - half, value + half, len(values), unit)


def bootstrap_mean(values: Sequence[float], seed: int, unit: str = "share") -> Estimate:
    return _bootstrap(values, fmean, seed, unit)


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The chance that a positive scores above a negative, ties counted half (Mann-Whitney)."""
    if not positive or not negative:
        raise ValueError("the area under the curve needs both kinds")
    ordered = sorted(negative)
    wins = sum(bisect_left(ordered, score) + bisect_right(ordered, score) for score in positive)
    return wins / (2 * len(positive) * len(negative))


def bootstrap_auroc(twins: Sequence[tuple[float, float]], seed: int) -> Estimate:
    """Of pairs (score if answerable, score if not); pairs are drawn whole."""

    def area(drawn: Sequence[tuple[float, float]]) -> float:
        return auroc([one for one, _ in drawn], [other for _, other in drawn])

    return _bootstrap(twins, area, seed, "score")


def _bootstrap(
    items: Sequence[Item], statistic: Callable[[Sequence[Item]], float], seed: int, unit: str
) -> Estimate:
    draw = random.Random(seed)
    found = sorted(statistic(draw.choices(items, k=len(items))) for _ in range(RESAMPLES))
    low, high = found[int(0.025 * RESAMPLES)], found[int(0.975 * RESAMPLES)]
    return Estimate(statistic(items), low, high, len(items), unit)
