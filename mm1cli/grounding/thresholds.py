"""How much likelier a quote must make a sentence before a model is believed that it says so.

Nats per token of the sentence, measured by `python -m benchmarks.claims` on the dev half of
tests/evidence/claims.jsonl; a model that was not measured gets the strictest.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class GainThresholds:
    """`gain` is over no text, `lead` over the best passage that does not say it, `coverage` the
    least share of the sentence's words that the quote has; `floor` the least gain of a sentence
    whose words all stand there."""

    gain: float
    lead: float
    coverage: float
    floor: float


UNMEASURED: Final = GainThresholds(gain=2.0, lead=1.0, coverage=0.75, floor=0.2)
_MEASURED: Final = {
    "mini": GainThresholds(gain=1.5, lead=0.5, coverage=0.75, floor=0.2),
    "small": GainThresholds(gain=1.5, lead=0.5, coverage=0.75, floor=0.2),
    "coder": GainThresholds(gain=1.5, lead=0.5, coverage=0.75, floor=0.2),
}


def thresholds(model: str) -> GainThresholds:
    """Those of a model by its catalogue name."""
    return _MEASURED.get(model, UNMEASURED)
