"""Writing: sampling, streaming, and the rules that end an answer."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from engine import cuda_graph, prompt_lookup
from engine.constraints.constraint import CompletableConstraint, Constraint
from engine.context import Context
from engine.errors import CheckpointError
from engine.prompt_lookup import SpeculativeReader
from engine.protocols import StopReason
from engine.stopping import StopTexts, in_loop
from engine.tokenizer import Tokenizer

NO_TOKEN = -1  # drawn where an answer is whole and nothing that could follow would fit


@dataclass(frozen=True, slots=True)
class Sampling:
    """`temperature` 0 is greedy. `top_p` keeps the likeliest tokens that together reach it
    (arXiv 1904.09751). The same seed gives the same text on one machine."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be 0 or more, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be over 0 and at most 1, got {self.top_p}")


class Sampler:
    """Draws token ids from logits. `never` [vocab] masks ids that are not to be drawn."""

    def __init__(self, sampling: Sampling, never: Tensor) -> None:
        self._sampling = sampling
        self._never = never
        self._generator = torch.Generator(never.device).manual_seed(sampling.seed)

    @property
    def is_greedy(self) -> bool:
        return self._sampling.temperature == 0

    @property
    def generator(self) -> torch.Generator:
        return self._generator

    def draw(self, logits: Tensor, allowed: Tensor | None = None) -> int:
        """One id; `logits` [vocab] float32, `allowed` [vocab] bool on any device.

        Raises ValueError if no id is allowed, CheckpointError if the model gives no numbers.
        """
        if bool(logits.isnan().any()):
            raise CheckpointError(
                "the model computes NaN: its weights are damaged; mm1 models verify NAME tells more"
            )
        if allowed is None:
            return int(self.choose(logits))
        forbidden = ~allowed.to(logits.device)
        if bool(self._never.all()):
            raise CheckpointError(
                "the model has no word to say: its weights are all zero; fetch it again"
            )
        if bool((forbidden | self._never).all()):
            raise ValueError("the constraint allows no token")
        return int(self.choose(logits.masked_fill(forbidden, -torch.inf)))

    def choose(self, logits: Tensor) -> Tensor:
        """The id `draw` gives, [] int64 on the device of `logits`, which is not waited for."""
        logits = logits.masked_fill(self._never, -torch.inf)
        if self._sampling.temperature == 0:
            return logits.argmax()
        # Float64 and a peak at 0, so that no temperature, however small, overflows.
        p = torch.softmax((logits - logits.max()).double() / self._sampling.temperature, dim=-1)
        if self._sampling.top_p < 1:
            p = _nucleus(p, self._sampling.top_p)
        # The exponential race, which is how torch.multinomial draws one, without its check of p.
        return (p / torch.empty_like(p).exponential_(generator=self._generator)).argmax()


def _nucleus(p: Tensor, top_p: float) -> Tensor:
    ordered, ids = p.sort(descending=True, stable=True)
    before = ordered.cumsum(0) - ordered
    return torch.zeros_like(p).scatter(0, ids, ordered.masked_fill(before >= top_p, 0.0))


class DecodeLoop(Protocol):
    """Tokens drawn one after another, each from a context that has read those before it."""

    def next(self) -> int:
        """Another token."""

    def finish(self, num_read: int) -> None:
        """Leaves the context behind the first `num_read` tokens: all that were drawn, or all but
        the last one. To be called once, and nothing afterwards.
        """


class EagerDecodeLoop:
    """Extends the context by a token when the next one is asked for, and never later.

    With `speculative` the context reads drafts, too, and is not to be used before `finish`; what is
    drawn is the same.
    """

    def __init__(
        self,
        context: Context,
        sampler: Sampler,
        constraint: Constraint | None = None,
        speculative: SpeculativeReader | None = None,
    ) -> None:
        self._context, self._sampler, self._constraint = context, sampler, constraint
        self._speculative = speculative
        self._last: int | None = None

    def next(self) -> int:
        logits = self._context.logits if self._last is None else self._logits_after(self._last)
        if logits is None:
            raise ValueError("an empty context cannot be continued; extend it first")
        constraint = self._constraint
        if constraint is None:
            self._last = self._sampler.draw(logits)
            return self._last
        self._last = self._sampler.draw(logits, constraint.allowed())
        if isinstance(constraint, CompletableConstraint):
            while constraint.rejects(self._last):
                if constraint.is_complete:
                    return NO_TOKEN
                self._last = self._sampler.draw(logits, constraint.allowed())
        constraint.push(self._last)
        return self._last

    def _logits_after(self, last: int) -> Tensor | None:
        if self._speculative is not None:
            return self._speculative.logits_after(last)
        self._context.extend([last])
        return self._context.logits

    def finish(self, num_read: int) -> None:
        if self._speculative is not None:
            self._speculative.finish(num_read)


class Decoding:
    """An answer being generated: iterate for its text, piece by piece, as it is decided.

    The pieces joined are the whole answer, without stop text. The context grows by the tokens
    written, the final one excepted, by the time the iteration ends, or is closed.
    `stop_reason` is set when the iteration ends. `num_drafted` tokens were guessed from the context
    and read ahead, `num_accepted` of them were written: see `engine.prompt_lookup`.
    """

    def __init__(
        self,
        context: Context,
        tokenizer: Tokenizer,
        sampler: Sampler,
        *,
        max_tokens: int,
        max_positions: int,
        stop_ids: frozenset[int],
        stop_texts: Sequence[str] = (),
        constraint: Constraint | None = None,
    ) -> None:
        self._context, self._tokenizer, self._sampler = context, tokenizer, sampler
        self._constraint = constraint
        self._ending = constraint if isinstance(constraint, CompletableConstraint) else None
        self._max_tokens, self._max_positions = max_tokens, max_positions
        self._stop_ids, self._stop_texts = stop_ids, StopTexts(stop_texts)
        self._start, self._num_read = len(context), 0
        self._loops = False  # and is on its way to the end because of it
        self._speculative: SpeculativeReader | None = None
        self.token_ids: list[int] = []
        self.stop_reason: StopReason | None = None

    @property
    def num_drafted(self) -> int:
        return self._speculative.num_drafted if self._speculative is not None else 0

    @property
    def num_accepted(self) -> int:
        return self._speculative.num_accepted if self._speculative is not None else 0

    def __iter__(self) -> Generator[str, None, None]:
        draws = self._begin()
        try:
            yield from self._pieces(draws)
        finally:
            draws.finish(self._num_read)

    def _begin(self) -> DecodeLoop:
        self._start = len(self._context)
        limit = min(self._max_tokens, self._max_positions - self._start + 1)
        if self._ending is not None:
            self._ending.begin(limit)
        if self._constraint is not None or not cuda_graph.supports(self._context):
            self._speculative = (
                SpeculativeReader(self._context) if prompt_lookup.supports(self._context) else None
            )
            return EagerDecodeLoop(
                self._context, self._sampler, self._constraint, self._speculative
            )
        return cuda_graph.GraphDecodeLoop(self._context, self._sampler, limit)

    def _pieces(self, draws: DecodeLoop) -> Iterator[str]:
        stream = self._tokenizer.stream()
        pending = ""  # text that may still turn out to be the start of a stop text
        while (reason := self._next_token(draws)) is None:
            pending += stream.push(self.token_ids[-1])
            if (cut := self._stop_texts.find(pending)) is not None:
                pending, reason = pending[:cut], StopReason.STOP_TEXT
                break
            ready = len(pending) - self._stop_texts.held_back(pending)
            if ready:
                yield pending[:ready]
                pending = pending[ready:]
        if pending:
            yield pending
        self.stop_reason = reason

    def _next_token(self, draws: DecodeLoop) -> StopReason | None:
        """Draws the next token into `token_ids`, or says why there is none."""
        if self._sampler.is_greedy and in_loop(self.token_ids):
            if self._ending is None and len(self.token_ids) < self._max_tokens:
                return StopReason.LOOP
            if self._ending is not None:
                self._loops = True
                self._ending.force_completion()
        if self._ending is not None and self._ending.is_complete:
            return self._end()
        if len(self.token_ids) >= self._max_tokens:
            return StopReason.MAX_TOKENS
        if self.token_ids:
            if self._start + self._num_read >= self._max_positions:
                return StopReason.CONTEXT_FULL
            self._num_read = len(self.token_ids)
        token_id = draws.next()
        if token_id == NO_TOKEN or token_id in self._stop_ids:
            return self._end()
        self.token_ids.append(token_id)
        return None

    def _end(self) -> StopReason:
        """Why the answer is over where it is whole."""
        if self._loops:
            return StopReason.LOOP
        is_cut = self._ending is not None and self._ending.is_cut
        return StopReason.MAX_TOKENS if is_cut else StopReason.END
