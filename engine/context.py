"""The noun `Context`: tokens and the model's state after them. Append-only, cheap to fork."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from engine.errors import EngineError
from engine.layers.kv import KVCache, KVTrace
from engine.layers.lightning import LightningState
from engine.likelihood import TokenScores, token_scores
from engine.model import LayerState, Model
from engine.prefill import chunk_major

OnProgress = Callable[[int, int], None]
OnScores = Callable[[TokenScores], None]


class Context:
    """Starts empty. `token_ids` is what the model has read; `logits` scores the next token.

    The chunk size fixes the grid of the products, so two contexts of the same tokens and chunk
    size are equal bit by bit. For `kv_dtype` see `Model.empty_states`.
    """

    def __init__(
        self, model: Model, chunk_tokens: int, kv_dtype: torch.dtype | None = None
    ) -> None:
        self._model = model
        self._states = model.empty_states(kv_dtype=kv_dtype)
        self._between_chunks = True
        self._ahead: tuple[Sequence[int], Tensor] | None = None
        self.chunk_tokens = chunk_tokens
        self.token_ids: list[int] = []
        self.logits: Tensor | None = None  # [vocab] float32, None while unknown

    @classmethod
    def restored(
        cls,
        model: Model,
        chunk_tokens: int,
        states: list[LayerState],
        token_ids: list[int],
        logits: Tensor | None,
    ) -> "Context":
        """A context with `states` after `token_ids`, as a store has kept them."""
        context = cls(model, chunk_tokens)
        context._states, context.token_ids, context.logits = states, token_ids, logits
        return context

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def states(self) -> Sequence[LayerState]:
        """One per layer, after `token_ids`; to be read, not changed."""
        return tuple(self._states)

    @property
    def is_whole(self) -> bool:
        """Whether all states stand at the same token; not so after an error inside a chunk."""
        return self._between_chunks

    @property
    def num_bytes(self) -> int:
        return sum(state.num_bytes for state in self._states)

    @torch.inference_mode()
    def extend(
        self,
        token_ids: Sequence[int],
        on_progress: OnProgress | None = None,
        on_scores: OnScores | None = None,
    ) -> None:
        """Reads more tokens. `on_progress` gets (tokens done, tokens in all) after each chunk.

        `on_scores` gets the likelihoods of each chunk's tokens as they came, chunk by chunk, which
        costs the head's product for every token; the context is the same bit by bit without it.
        If either raises, the context stands whole at that chunk border and can go on.
        An error inside a chunk leaves it unusable, and every later call says so.
        """
        before = self.logits
        for done, hidden in self.chunks(token_ids):
            self.logits = self._model.logits(hidden[-1:])[0]
            if on_scores is not None:
                chunk = token_ids[done - len(hidden) : done]
                on_scores(token_scores(self._model, before, hidden[:-1], chunk))
                before = self.logits
            if on_progress is not None:
                on_progress(done, len(token_ids))

    def fork(self) -> "Context":
        """A context with the same tokens that grows apart from here; shares what cannot change."""
        self._check()
        twin = Context.__new__(Context)
        twin._model = self._model
        twin._states = [state.fork() for state in self._states]
        twin._between_chunks, twin._ahead = True, None
        twin.chunk_tokens = self.chunk_tokens
        twin.token_ids = list(self.token_ids)
        twin.logits = self.logits
        return twin

    @torch.inference_mode()
    def read_ahead(self, token_ids: Sequence[int]) -> Tensor:
        """The logits [T, vocab] after each of `token_ids`, which are read in one call.

        Before `keep` has said how many of them stay, the context cannot be used. Ask
        `engine.speculation.serves` before. At most 16 tokens, each of which gets the bits it would
        get alone.
        """
        self._check()
        self._between_chunks = False
        for state in self._states:
            if isinstance(state, LightningState):
                state.keeps_last = True
        ids = torch.tensor(token_ids, device=self._model.device)
        logits = self._model.logits(self._model(ids, self._states, len(self)))
        self._ahead = (token_ids, logits)
        return logits

    @torch.inference_mode()
    def keep(self, num_tokens: int) -> None:
        """Of the tokens that were read ahead the first `num_tokens`, at least one, stay."""
        assert self._ahead is not None and 0 < num_tokens <= len(self._ahead[0])
        (token_ids, logits), self._ahead = self._ahead, None
        for state in self._states:
            assert not isinstance(state, KVTrace)
            state.cut(len(token_ids) - num_tokens)
        self.token_ids.extend(token_ids[:num_tokens])
        self.logits = logits[num_tokens - 1]
        self._between_chunks = True

    def note(self, token_ids: Sequence[int], logits: Tensor) -> None:
        """Says that all states now stand behind these further tokens: for who moved the states."""
        self._check()
        self.token_ids.extend(token_ids)
        self.logits = logits

    @property
    def model(self) -> Model:
        return self._model

    def attend_globally(self) -> None:
        """Tokens read from here on see every earlier one, also in layers with a window.

        Call it where the documents end and the question begins; a second call changes nothing.
        Models without windows do not need it.
        """
        self._check()
        for state in self._states:
            if isinstance(state, KVCache) and state.global_from is None:
                state.global_from = len(self)

    @torch.inference_mode()
    def score(self, token_ids: Sequence[int]) -> Tensor:
        """log p of each of `token_ids` [T], in nats, were they to come next; changes nothing."""
        if self.logits is None:
            raise EngineError("an empty context gives no token a likelihood")
        targets = torch.tensor(token_ids, dtype=torch.int64, device=self._model.device)
        rows = [self.logits[None]]
        rows += [self._model.logits(hidden) for _, hidden in self.fork().chunks(token_ids[:-1])]
        log_p = torch.log_softmax(torch.cat(rows), dim=-1)
        return log_p.gather(1, targets[:, None])[:, 0]

    @torch.inference_mode()
    def attention(self, token_ids: Sequence[int]) -> Tensor | None:
        """The share [len(self)] of their attention that `token_ids`, were they to come next, would
        give each token there is, over all heads and layers that look at everything; changes
        nothing.

        The rest goes to these tokens themselves. None where no layer looks at everything. Costs
        what reading `token_ids` costs, and the attention of those layers twice more.
        """
        twin = self.fork()
        caches = [state for state in twin.states if isinstance(state, KVCache)]
        for cache in caches:
            cache.mass = torch.zeros(len(self), device=self._model.device)
        for _ in twin.chunks(token_ids):
            pass
        masses = [cache.mass for cache in caches if cache.mass is not None and cache.mass.any()]
        if not masses:
            return None
        total = len(masses) * len(token_ids) * self._model.config.num_heads
        return torch.stack(masses).sum(dim=0) / total

    @torch.inference_mode()
    def extend_scored(self, token_ids: Sequence[int]) -> Tensor:
        """`extend`, and log p of each of `token_ids` [T] as it came, in nats, on the CPU."""
        if self.logits is None:
            raise EngineError("an empty context gives no token a likelihood")
        found = [torch.empty(0)]
        self.extend(token_ids, on_scores=lambda scores: found.append(scores.log_p))
        return torch.cat(found)

    @torch.inference_mode()
    def chunks(self, token_ids: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Reads `token_ids`; after each chunk yields (tokens done, hidden [t, D]).

        `logits` are unknown from then on, until `extend`.
        """
        self._check()
        start = len(self)
        chunks = chunk_major(self._model, self._states, token_ids, start, self.chunk_tokens)
        while True:
            self._between_chunks = False
            reached, hidden = next(chunks, (None, None))
            self._between_chunks = True
            if reached is None or hidden is None:
                return
            self.token_ids.extend(token_ids[len(self) - start : reached - start])
            self.logits = None
            yield reached - start, hidden

    def _check(self) -> None:
        if not self._between_chunks:
            raise EngineError("this context was interrupted inside a chunk; build it again")
