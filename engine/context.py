"""The noun `Context`: tokens and the model's state after them. Append-only, cheap to fork."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing

import torch
from torch import Tensor

from engine import retrieval_head, scheduler
from engine.activations import ActivationBuffer
from engine.errors import EngineError
from engine.layers.delta import DeltaState
from engine.layers.kv_cache import DifferentiableKV, KVCache
from engine.layers.lightning import LightningState
from engine.logprobs import TokenScores, token_scores
from engine.model import LayerState, Model
from engine.pipeline_parallel.model import StagedModel
from engine.pipeline_parallel.pipeline import pipelined
from engine.prefill import PrefillRequest, chunk_major, layer_major
from engine.protocols import Judged, RetrievalHead, SelectedBlock

OnProgress = Callable[[int, int], None]
OnScores = Callable[[TokenScores], None]


class Context:
    """Starts empty. `token_ids` is what the model has read; `logits` scores the next token.

    The chunk size fixes the grid of the matmuls, so two contexts of the same tokens and chunk
    size are equal bit by bit. For `kv_dtype` see `Model.empty_states`.
    """

    def __init__(
        self,
        model: Model,
        chunk_tokens: int,
        kv_dtype: torch.dtype | None = None,
    ) -> None:
        self._model = model
        self._states = model.empty_states(kv_dtype=kv_dtype)
        self._between_chunks = True
        self._draft: tuple[Sequence[int], Tensor] | None = None
        self._searched: tuple[tuple[object, ...], Tensor | None] | None = None
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
    def reused_tokens(self) -> int | None:
        """Not known here: what a fork shares, who made the fork knows exactly."""
        return None

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
        costs the head's matmul for every token; the context is the same bit by bit without it.
        If either raises, the context stands whole at that chunk border and can go on.
        An error inside a chunk leaves it unusable, and every later call says so. Where the model
        is streamed, all tokens are one such chunk, and progress is that of all layers together.
        """
        before = self.logits
        with closing(self.chunks(token_ids, on_progress)) as chunks:
            for done, hidden in chunks:
                self.logits = self._model.logits(hidden[-1:])[0]
                if on_scores is not None:
                    chunk = token_ids[done - len(hidden) : done]
                    on_scores(token_scores(self._model, before, hidden[:-1], chunk))
                    before = self.logits
                is_last = done == len(token_ids)
                if on_progress is not None and (is_last or not self._is_by_layer):
                    on_progress(done, len(token_ids))

    def fork(self) -> "Context":
        """A context with the same tokens that grows apart from here; shares what cannot change."""
        self._check()
        twin = Context.__new__(Context)
        twin._model = self._model
        twin._states = [state.fork() for state in self._states]
        twin._between_chunks, twin._draft, twin._searched = True, None, None
        twin.chunk_tokens = self.chunk_tokens
        twin.token_ids = list(self.token_ids)
        twin.logits = self.logits
        return twin

    @torch.inference_mode()
    def verify_draft(self, token_ids: Sequence[int]) -> Tensor:
        """The logits [T, vocab] after each of `token_ids`, which are read in one call.

        Before `accept` has said how many of them stay, the context cannot be used. Ask
        `engine.prompt_lookup.supports` before. At most 8 tokens, each of which gets the bits it
        would get alone.
        """
        self._check()
        self._between_chunks = False
        for state in self._states:
            if isinstance(state, LightningState | DeltaState):
                state.keeps_last = True
        ids = torch.tensor(token_ids, device=self._model.device)
        logits = self._model.logits(self._model(ids, self._states, len(self)))
        self._draft = (token_ids, logits)
        return logits

    @torch.inference_mode()
    def accept(self, num_tokens: int) -> None:
        """Of the tokens that were read ahead the first `num_tokens`, at least one, stay."""
        assert self._draft is not None and 0 < num_tokens <= len(self._draft[0])
        (token_ids, logits), self._draft = self._draft, None
        for state in self._states:
            assert not isinstance(state, DifferentiableKV)
            state.cut(len(token_ids) - num_tokens)
        self.token_ids.extend(token_ids[:num_tokens])
        self.logits = logits[num_tokens - 1]
        self._between_chunks = True

    def commit(self, token_ids: Sequence[int], logits: Tensor) -> None:
        """Says that all states now stand behind these further tokens: for who moved the states."""
        self._check()
        self.token_ids.extend(token_ids)
        self.logits = logits

    @property
    def model(self) -> Model:
        return self._model

    def end_of_documents(self) -> None:
        """Tokens read from here on see every earlier one, also in layers with a window.

        Call it where the documents end and the question begins; a second call changes nothing.
        Models without windows do not need it.
        """
        self._check()
        for state in self._states:
            if isinstance(state, KVCache) and state.global_attention_from is None:
                state.global_attention_from = len(self)

    @torch.inference_mode()
    def select(self, token_ids: Sequence[int], first: int = 0) -> list[SelectedBlock]:
        """The blocks of the documents that `token_ids`, a question to come next, selects: what it
        and its answer will see of them in far layers, beside sinks. Best first; [] where the model
        selects nothing, or everything is seen anyway. Documents begin at `first`: instructions
        before them draw more of a scan than any document.

        Ends the documents where nothing has. What was selected before is forgotten.
        """
        self.end_of_documents()
        return retrieval_head.select(self, token_ids, first)

    @torch.inference_mode()
    def search(self, token_ids: Sequence[int], first: int = 0) -> Tensor | None:
        """The share of attention that the retrieval head of `token_ids`, a question to come next,
        gives each token [n] float32 of the documents, which begin at `first`; changes nothing. Runs
        of `retrieval_head.RUN_TOKENS` share theirs evenly. None where the model has no such head.
        """
        self._check()
        asked = (tuple(token_ids), first, len(self))
        if self._searched is None or self._searched[0] != asked:
            self._searched = (asked, retrieval_head.search(self, token_ids, first))
        return self._searched[1]

    @torch.inference_mode()
    def score(self, token_ids: Sequence[int], given: Sequence[int] = ()) -> Tensor:
        """log p of each of `token_ids` [T], in nats, were they to come next, after `given`; changes
        nothing. Both are read at once."""
        return self.fork().read_scored(token_ids, given, len(token_ids) - 1)

    @torch.inference_mode()
    def judge(self, token_ids: Sequence[int], given: Sequence[int], head: RetrievalHead) -> Judged:
        """`score`, and the share [len(given)] float32 of the attention of `head` that `token_ids`
        give each token of `given`, in the same pass; changes nothing."""
        return retrieval_head.judge(self, token_ids, given, head)

    def read_scored(self, token_ids: Sequence[int], given: Sequence[int], num_read: int) -> Tensor:
        """`score` that reads `given` and the first `num_read` of `token_ids`, all or all but one,
        here instead of in a fork."""
        if self.logits is None and not given:
            raise EngineError("an empty context gives no token a likelihood")
        targets = torch.tensor(token_ids, dtype=torch.int64, device=self._model.device)
        rows = [] if given or self.logits is None else [self.logits[None]]
        first = max(len(given) - 1, 0)  # of those after which a wanted token comes
        for done, hidden in self.chunks([*given, *token_ids[:num_read]] if token_ids else ()):
            wanted = hidden[max(first - done + len(hidden), 0) :]
            if len(wanted):
                rows.append(self._model.logits(wanted))
        if not rows:
            return targets.float()
        log_p = torch.log_softmax(torch.cat(rows)[: len(targets)], dim=-1)
        return log_p.gather(1, targets[:, None].to(log_p.device))[:, 0]

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
            cache.attention_received = torch.zeros(len(self), device=cache.device)
        for _ in twin.chunks(token_ids):
            pass
        received = [
            cache.attention_received
            for cache in caches
            if cache.attention_received is not None and cache.attention_received.any()
        ]
        if not received:
            return None
        total = len(received) * len(token_ids) * self._model.config.num_heads
        return torch.stack([one.to(received[0].device) for one in received]).sum(dim=0) / total

    @torch.inference_mode()
    def chunks(
        self,
        token_ids: Sequence[int],
        on_progress: OnProgress | None = None,
        between: ActivationBuffer | None = None,
    ) -> Generator[tuple[int, Tensor], None, None]:
        """Reads `token_ids`; after each chunk yields (tokens done, hidden [t, D]).

        `logits` are unknown from then on, until `extend`. Where the model is streamed nothing is
        yielded before the last layer is done; `on_progress` gets the tokens' share until then, and
        the hidden states between two layers are kept in `between`, where that is given.
        """
        self._check()
        start, total = len(self), len(token_ids)
        grid = (self._model, self._states, token_ids, start, self.chunk_tokens)
        chunks = chunk_major(*grid)
        task = scheduler.current_task(self._model)
        by_layer = self._is_by_layer
        if by_layer and total:

            def on_chunk(layer: int, reached: int) -> None:
                if on_progress is not None:
                    share = (layer + (reached - start) / total) / self._model.config.num_layers
                    on_progress(min(int(total * share), total - 1), total)

            if task is None or between is not None:
                chunks = layer_major(*grid, between=between, on_chunk=on_chunk)
            else:
                chunks = task.read(PrefillRequest(*grid[1:], on_chunk=on_chunk))
        elif isinstance(self._model, StagedModel) and self._spans_chunks(total):
            chunks = pipelined(self._model, PrefillRequest(*grid[1:]))
        try:
            while True:
                self._between_chunks = False
                reached, hidden = next(chunks, (None, None))
                self._between_chunks = not by_layer or reached in {None, start + total}
                if reached is None or hidden is None:
                    return
                self.token_ids.extend(token_ids[len(self) - start : reached - start])
                self.logits = None
                yield reached - start, hidden
        finally:
            if isinstance(chunks, Generator):
                chunks.close()  # stages may be at work

    @property
    def _is_by_layer(self) -> bool:
        """Whether all tokens pass a layer before the next one, so that no chunk is done early."""
        return self._model.is_streamed or scheduler.current_task(self._model) is not None

    def _spans_chunks(self, num_tokens: int) -> bool:
        """Whether further tokens lie in several chunks, which can be in several stages at once."""
        return len(self) % self.chunk_tokens + num_tokens > self.chunk_tokens

    def _check(self) -> None:
        if not self._between_chunks:
            raise EngineError("this context was interrupted inside a chunk; build it again")
