"""Error bars: Wilson for shares, bootstrap over items for everything else, both 95 %."""

import math
import random
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev

Z = 1.959963984540054  # the normal distribution's 97.5 % point
RESAMPLES = 1000


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


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The chance that a positive scores above a negative, ties counted half (Mann-Whitney)."""
    if not positive or not negative:
        raise ValueError("the area under the curve needs both kinds")
    ordered = sorted(negative)
    wins = sum(bisect_left(ordered, score) + bisect_right(ordered, score) for score in positive)
    return wins / (2 * len(positive) * len(negative))


def bootstrap_auroc(positive: Sequence[float], negative: Sequence[float], seed: int) -> Estimate:
    """Each kind is drawn on its own. Twins drawn whole would meet themselves more often than in
    the data, which moves the whole interval up; drawn apart it is a little too wide instead."""
    value = auroc(positive, negative)
    draw = random.Random(seed)
    found = sorted(
        auroc(draw.choices(positive, k=len(positive)), draw.choices(negative, k=len(negative)))
        for _ in range(RESAMPLES)
    )
    return Estimate(value, *_middle(found), len(positive), "score")


def bootstrap_mean(values: Sequence[float], seed: int, unit: str = "share") -> Estimate:
    draw = random.Random(seed)
    found = sorted(fmean(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return Estimate(fmean(values), *_middle(found), len(values), unit)


def _middle(ordered: Sequence[float]) -> tuple[float, float]:
    """The ends of the middle 95 %."""
    return ordered[int(0.025 * len(ordered))], ordered[int(0.975 * len(ordered))]
