"""How much likelier a quote must make a sentence before a model is believed that it says so.

Chosen on the dev half of tests/evidence/claims.jsonl (`python -m benchmarks.claims`); a model that
was not measured gets stricter ones.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class GainThresholds:
    """Nats per token of the sentence: `gain` over no text, `lead` over the best passage that says
    less of it. `coverage` is the least share of the sentence's words that the quote has."""

    gain: float
    lead: float
    coverage: float


UNMEASURED: Final = GainThresholds(gain=1.5, lead=1.5, coverage=0.7)
MEASURED: Final = GainThresholds(gain=0.75, lead=0.9, coverage=0.5)
_MODELS: Final = frozenset({"mini", "small", "coder"})


def thresholds(model: str) -> GainThresholds:
    """Those of a model that was measured, by its catalogue name."""
    return MEASURED if model in _MODELS else UNMEASURED
