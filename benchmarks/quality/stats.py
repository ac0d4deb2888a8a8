"""Error bars, all 95 %: Wilson for what lies between 0 and 1, bootstrap for nats and areas."""

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
    """A measured `value` of `num` items and its interval, None where one item gives none.

    `unit` is "share", "score", "nats" or "ppl" and decides how it is written.
    """

    value: float
    low: float | None
    high: float | None
    num: int
    unit: str

    def __str__(self) -> str:
        shown = [self._shown(x) for x in (self.low, self.high) if x is not None]
        sign = "%" if self.unit == "share" else ""
        interval = f" [{', '.join(shown)}]" if shown else ""
        return f"{self._shown(self.value)}{sign}{interval} of {self.num}"

    def _shown(self, x: float) -> str:
        if self.unit == "share":
            return f"{100 * x:.0f}"
        return f"{x:.3f}" if self.unit == "nats" else f"{x:.2f}"

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def wilson(successes: float, num: int, unit: str = "share") -> Estimate:
    """A share and its score interval (Wilson 1927). Raises ValueError without a trial.

    Also for the mean of scores from 0 to 1, given their sum: nothing in that range varies more
    than a yes and no of the same mean, so the interval is wide enough.
    """
    if num < 1:
        raise ValueError("a share needs at least one trial")
    share, z2 = successes / num, Z * Z
    centre = (share + z2 / (2 * num)) / (1 + z2 / num)
    half = Z / (1 + z2 / num) * math.sqrt(share * (1 - share) / num + z2 / (4 * num * num))
    low, high = max(centre - half, 0.0), min(centre + half, 1.0)
    # Rounding must not put the estimate outside its own interval.
    return Estimate(share, min(low, share), max(high, share), num, unit)


def normal_mean(values: Sequence[float], unit: str) -> Estimate:
    """A mean over blocks, plus or minus 1.96 standard errors."""
    value = fmean(values)
    if len(values) == 1:
        return Estimate(value, None, None, 1, unit)
    half = Z * stdev(values) / math.sqrt(len(values))
    return Estimate(value, value - half, value + half, len(values), unit)


def bootstrap_mean(values: Sequence[float], seed: int, unit: str) -> Estimate:
    value = fmean(values)
    if len(values) == 1:
        return Estimate(value, None, None, 1, unit)
    draw = random.Random(seed)
    found = sorted(fmean(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return Estimate(value, *_middle(found), len(values), unit)


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The chance that a positive scores above a negative, ties counted half (Mann-Whitney)."""
    if not positive or not negative:
        raise ValueError("the area under the curve needs both kinds")
    ordered = sorted(negative)
    wins = sum(bisect_left(ordered, score) + bisect_right(ordered, score) for score in positive)
    return wins / (2 * len(positive) * len(negative))


def bootstrap_auroc(positive: Sequence[float], negative: Sequence[float], seed: int) -> Estimate:
    """Each kind is drawn on its own. Twins drawn whole would meet themselves more often than in
    the data, which moves the whole interval up; drawn apart it is a little too wide instead.

    Where every draw gives the same area, Wilson's interval of that share stands instead: the
    variance of an area A is at most A (1 - A) / min(m, n) (Birnbaum and Klose 1957).
    """
    value = auroc(positive, negative)
    draw = random.Random(seed)
    found = sorted(
        auroc(draw.choices(positive, k=len(positive)), draw.choices(negative, k=len(negative)))
        for _ in range(RESAMPLES)
    )
    if found[0] == found[-1]:
        num = min(len(positive), len(negative))
        return wilson(value * num, num, "score")
    return Estimate(value, *_middle(found), len(positive), "score")


def _middle(ordered: Sequence[float]) -> tuple[float, float]:
    """The ends of the middle 95 %."""
    return ordered[int(0.025 * len(ordered))], ordered[int(0.975 * len(ordered))]
