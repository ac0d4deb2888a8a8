"""What an answer rests on, measured with the model once the answer is decoded.

Two measures of a passage. Gain: log p(answer | question, passage) less log p(answer | question),
in nats per token of the answer; it can also be taken of one sentence of it. Attention: the share
that the answer's tokens give to the passage wherever it stands in the context.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from engine.api import Context, Engine, Turn
from mm1cli.prompts import prompt
from mm1cli.retrieval.passages import Passage, Ranked, with_heading

MAX_SCORED_TOKENS = 2048  # of an answer; what follows has no gain


@dataclass(frozen=True, slots=True)
class LogProbGain:
    """By how many nats a passage raises the logprob of each token of an answer, and their ends."""

    tokens: tuple[float, ...]
    ends: tuple[int, ...]

    @property
    def mean(self) -> float:
        return sum(self.tokens) / len(self.tokens)

    def over(self, start: int, end: int) -> float | None:
        """The mean over the tokens that end in `answer[start:end]`; None if none was scored."""
        first, last = bisect_left(self.ends, start + 1), bisect_left(self.ends, end + 1)
        inside = self.tokens[first:last]
        return sum(inside) / len(inside) if inside else None


def gains(
    engine: Engine, question: str, answer: str, passages: Sequence[Passage]
) -> list[LogProbGain] | None:
    """The gain of each passage; None for an answer without text."""
    return text_gains(engine, question, answer, list(map(with_heading, passages)))


def text_gains(
    engine: Engine, question: str, answer: str, texts: Sequence[str]
) -> list[LogProbGain] | None:
    """The gain of each text; None for an answer without text, or where no logprobs are told."""
    tokenizer = engine.tokenizer
    ids = tokenizer.encode(answer)[:MAX_SCORED_TOKENS]
    if not ids or not engine.capabilities.has_logprobs:
        return None
    ends = tuple(end for _, end in tokenizer.offsets(answer)[: len(ids)])

    def prompt_ids(text: str) -> list[int]:
        parts = (text, prompt("question"), question)
        return tokenizer.encode_chat([Turn("system", (prompt("system"),)), Turn("user", parts)])

    def logprobs(before: list[int]) -> list[float]:
        return engine.new_context().score(ids, given=before).tolist()

    prompts = [prompt_ids(text) for text in ("", *texts)]
    most = max(map(len, prompts)) + len(ids)
    without, *given = engine.map_requests([partial(logprobs, before) for before in prompts], most)
    return [
        LogProbGain(tuple(a - b for a, b in zip(with_it, without, strict=True)), ends)
        for with_it in given
    ]


def attention(
    context: Context,
    answer_ids: Sequence[int],
    places: Sequence[Sequence[int]],
) -> list[float] | None:
    """The share of the attention of `answer_ids` after `context` that goes to each set of tokens.

    None where there is no answer, or no layer that looks at everything.
    """
    received = context.attention(answer_ids[:MAX_SCORED_TOKENS]) if answer_ids else None
    if received is None:
        return None
    shares = received.tolist()
    return [sum(shares[token] for token in tokens) for tokens in places]


@dataclass(frozen=True, slots=True)
class Attributed:
    """A passage with all that was measured of it; None where that was not possible."""

    passage: Passage
    score: float
    gain: LogProbGain | None
    attention: float | None


def attribute(
    engine: Engine,
    before: Context,
    question: str,
    answer: str,
    answer_ids: Sequence[int],
    evidence: Sequence[Ranked],
    places: Sequence[Sequence[int]],
) -> list[Attributed]:
    """`evidence` in its order. Gain and attention do not change it: see benchmarks/LOG.md.

    `answer_ids` came after `before`, in which each passage stands at the tokens `places`.
    """
    nothing = [None] * len(evidence)
    passages = [ranked.passage for ranked in evidence]
    raised: Sequence[LogProbGain | None] = gains(engine, question, answer, passages) or nothing
    shares: Sequence[float | None] = attention(before, answer_ids, places) or nothing
    return [
        Attributed(ranked.passage, ranked.score, gain, share)
        for ranked, gain, share in zip(evidence, raised, shares, strict=True)
    ]
