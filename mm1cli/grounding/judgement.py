"""What a model decides of a sentence that words leave open (`support`), each model as measured.

Figures and where they come from: benchmarks/LOG.md, `python -m benchmarks.claims`. Gain tells what
a quote is about and little of what it says; a model that understands the question is asked instead.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from mm1cli.grounding.support import Verdict
from mm1cli.result import Mark

Says = Callable[[str, Sequence[str]], list[float]]  # `Entailment.log_odds`


@dataclass(frozen=True, slots=True)
class Held:
    """A sentence held against a text: what words say, and the gain if it was measured."""

    sentence: str
    text: str
    verdict: Verdict
    gain: float | None = None


class Judgement(Protocol):
    def settle(self, held: Sequence[Held]) -> list[Verdict]:
        """The verdicts of one sentence against several texts, those changed that the model knows
        better than words."""


@dataclass(frozen=True, slots=True)
class ByGain:
    """A text must make the sentence likelier: by `gain` nats per token than no text, by `lead`
    than the best text that says less of it. `coverage` is the least share of the sentence's words
    that it has."""

    gain: float
    lead: float
    coverage: float

    def settle(self, held: Sequence[Held]) -> list[Verdict]:
        return [
            replace(one.verdict, mark=Mark.CARRIED) if self._carries(one, held) else one.verdict
            for one in held
        ]

    def _carries(self, one: Held, held: Sequence[Held]) -> bool:
        verdict = one.verdict
        if verdict.mark is not None or one.gain is None or verdict.coverage < self.coverage:
            return False
        # What is open, too, and has as many of the words may be the same text in another document.
        others = [
            other.gain
            for other in held
            if other.gain is not None
            and other.verdict.mark is not Mark.CARRIED
            and (other.verdict.mark is not None or other.verdict.coverage < verdict.coverage)
        ]
        lead = one.gain - max(others) if others else self.lead
        return one.gain >= self.gain and lead >= self.lead


@dataclass(frozen=True, slots=True)
class Weights:
    """A logistic regression: log-odds that a quote carries a sentence. A bias by what words say of
    it, then weights."""

    carried: float
    open: float  # or not carried, which without a number or name is little known
    contradicted: float
    says: float  # of the model's answer, `Entailment.log_odds`
    coverage: float  # of the share of the sentence's words that the quote has

    def log_odds(self, verdict: Verdict, says: float) -> float:
        biases = {Mark.CARRIED: self.carried, Mark.CONTRADICTED: self.contradicted}
        bias = self.open if verdict.mark is None else biases.get(verdict.mark, self.open)
        return bias + self.says * says + self.coverage * verdict.coverage


@dataclass(frozen=True, slots=True)
class ByAnswer:
    """The model is asked of every quote about which no number, date or name decides, unless the
    sentence stands in one."""

    weights: Weights
    says: Says

    def settle(self, held: Sequence[Held]) -> list[Verdict]:
        settled = [one.verdict for one in held]
        if any(one.is_firm and one.mark is Mark.CARRIED for one in settled):
            return settled
        asked = [n for n, verdict in enumerate(settled) if not verdict.is_firm]
        if not asked:
            return settled
        answers = self.says(held[0].sentence, [held[n].text for n in asked])
        for n, says in zip(asked, answers, strict=True):
            if self.weights.log_odds(settled[n], says) >= LEAST_LOG_ODDS:
                settled[n] = replace(settled[n], mark=Mark.CARRIED)
            elif settled[n].mark is Mark.CARRIED:
                settled[n] = replace(settled[n], mark=None)
        return settled


LEAST_LOG_ODDS: Final = 0.5  # that a quote carries a sentence: a mark is to be believed
UNMEASURED: Final = ByGain(gain=1.5, lead=1.5, coverage=0.7)
MEASURED: Final = ByGain(gain=0.75, lead=0.9, coverage=0.5)
_BY_GAIN: Final = frozenset({"mini", "small"})
# Fitted with an L2 penalty of 0.1 (of coverage 0.3) on the 66 sentences of "fit" about which no
# number, date or name decides. What is known to be in the words of a quote counts against it, for
# what words do not carry then differs in who does what.
_BY_ANSWER: Final = {
    "coder": Weights(carried=2.69, open=1.78, contradicted=0.15, says=0.70, coverage=-2.02)
}


def judgement(model: str, says: Says | None) -> Judgement:
    """Of a model by its catalogue name; `says` None: it tells no logprobs."""
    if says is not None and (weights := _BY_ANSWER.get(model)) is not None:
        return ByAnswer(weights, says)
    return MEASURED if model in _BY_GAIN else UNMEASURED
