"""Writing on a GPU: one step of a token recorded as a CUDA graph, replayed without being asked.

A step takes its token, its position and all states from fixed places on the device, draws the next
token there, and leaves everything where the next step looks for it. The host only starts steps, a
batch at a time, and reads a batch's tokens while the next batch runs. So it learns of a stop up to
two batches late. What was written too much is never committed: the context stays as it was while
tokens are drawn. `finish` goes back to the copy of the Lightning states made before the batch that
went too far and takes its steps again up to the stop: the same kernels on the same numbers, so the
context is bit by bit that of having stopped in time. Keys beyond the stop are simply not counted.

On a CPU the same steps run one by one, unrecorded.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from engine.context import Context
from engine.layers.kv_cache import KVCache
from engine.layers.lightning import LightningState
from engine.layers.static_kv import StaticKVCache
from engine.model import StepState
from kernels.registry import HAS_TRITON

BATCH_TOKENS = 4
_NUM_NEW_BLOCKS = 2  # of keys and values; when they are full, a new graph is recorded
_RECORDED_HEAD_DIMS = (64, 128)  # for which attention does not ask the device for the position


class SamplerProtocol(Protocol):
    """What a step needs of a sampler: see `engine.decode.Sampler`."""

    @property
    def generator(self) -> torch.Generator: ...

    def choose(self, logits: Tensor) -> Tensor: ...


def supports(context: Context) -> bool:
    """Whether tokens after `context` are to be drawn by recorded steps.

    Not where a layer has a state of another kind (`sliding_window`), nor under autocast, nor where
    layers lie on several devices or are not all at hand.
    """
    model = context.model
    has_kv = any(isinstance(state, KVCache) for state in context.states)
    return (
        HAS_TRITON
        and model.device.type == "cuda"
        and not (model.is_staged or model.is_streamed)
        and can_step(context)
        and (not has_kv or model.config.head_dim in _RECORDED_HEAD_DIMS)
        and not torch.is_autocast_enabled("cuda")
    )


def can_step(context: Context) -> bool:
    """Whether every layer's state has a form of fixed shape."""
    selects = context.model.config.selection is not None
    kinds = (LightningState, KVCache)
    return not selects and all(type(state) in kinds for state in context.states)


@dataclass(frozen=True, slots=True)
class Batch:
    """Steps `first` .. `end` - 1: what the Lightning states were before, and the tokens drawn."""

    first: int
    end: int
    before: Sequence[Tensor]
    drawn: Tensor  # on the host, valid once `wait` has returned
    wait: Callable[[], None]


class GraphStepper:
    """Steps from the end of `context`, the first of which reads `token` [1] int64.

    There are `num_steps` of them: `limit`, or as many as there is room for. The first one is not
    recorded: it loads and compiles what recording cannot. What the context holds is not touched
    before `commit`, and the object is used up by it.
    """

    @torch.inference_mode()
    def __init__(
        self,
        context: Context,
        sampler: SamplerProtocol,
        token: Tensor,
        limit: int,
        *,
        record: bool = True,
    ) -> None:
        self._context, self._model, self._sampler = context, context.model, sampler
        device, self._start = self._model.device, len(context)
        self._token, self._position = token.clone(), torch.tensor([self._start], device=device)
        self.num_steps, self.num_started = limit, 0
        self._states: list[StepState] = []
        for state in context.states:
            if isinstance(state, KVCache):
                self._states.append(StaticKVCache(state, self._position, _NUM_NEW_BLOCKS))
                room = StaticKVCache.capacity(self._start, _NUM_NEW_BLOCKS)
                self.num_steps = min(self.num_steps, room)
            else:
                assert isinstance(state, LightningState)
                self._states.append(LightningState(state.tensor.clone()))
        self._lightning = [s for s in self._states if isinstance(s, LightningState)]
        self._fixed = [state.tensor for state in self._lightning]
        # Of the batch being read and of the one that runs meanwhile.
        self._copies = [[torch.empty_like(x) for x in self._fixed] for _ in range(2)]
        self._num_batches = 0
        self._logits = torch.empty(self._model.config.vocab_size, device=device)
        self._drawn = torch.zeros(self.num_steps, dtype=torch.int64, device=device)
        self._at = torch.zeros(1, dtype=torch.int64, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._may_record = record and device.type == "cuda"
        self.record_error: str | None = None  # why steps are not recorded although they should be

    @property
    def is_recorded(self) -> bool:
        return self._graph is not None

    @torch.inference_mode()
    def start(self, num_steps: int) -> Batch:
        """Queues so many further steps. The batch before the last one must have been read."""
        first, end = self.num_started, self.num_started + num_steps
        assert end <= self.num_steps
        before = self._copies[self._num_batches % len(self._copies)]
        self._num_batches += 1
        for copy, tensor in zip(before, self._fixed, strict=True):
            copy.copy_(tensor)
        for _ in range(num_steps):
            self._step()
        return Batch(first, end, before, *to_host(self._drawn[first:end]))

    @torch.inference_mode()
    def commit(self, read: Sequence[int], batches: Sequence[Batch]) -> None:
        """Leaves the context behind the tokens `read`: the first step's, and those drawn then.

        `batches` are those whose copies still stand: the last two at most.
        """
        count = len(read)
        if not count:
            return
        if count < self.num_started:
            batch = next(batch for batch in batches if batch.first < count <= batch.end)
            self._go_back(batch)
        while self.num_started < count:
            # What was drawn: to draw again could draw another.
            self._token.fill_(read[self.num_started])
            self._step()
        for state, moved in zip(self._context.states, self._states, strict=True):
            if isinstance(moved, StaticKVCache):
                moved.commit(self._start + count)
            else:
                assert isinstance(state, LightningState) and isinstance(moved, LightningState)
                state.tensor = moved.tensor
        self._context.commit(read, self._logits)

    def _go_back(self, batch: Batch) -> None:
        for tensor, copy in zip(self._fixed, batch.before, strict=True):
            tensor.copy_(copy)
        self._position.fill_(self._start + batch.first)
        self._at.fill_(batch.first)
        self.num_started = batch.first

    def _step(self) -> None:
        if self._may_record and self.num_started > 0:
            self._may_record = False
            self._record()
        if self._graph is None:
            self._work()
        else:
            self._graph.replay()
        self.num_started += 1

    def _record(self) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            graph.register_generator_state(self._sampler.generator)
            with torch.cuda.graph(graph):
                self._work()
        except RuntimeError as error:
            # Nothing has run while recording, so the steps can go on one by one.
            self.record_error = str(error).splitlines()[0]
        else:
            self._graph = graph

    def _work(self) -> None:
        try:
            hidden = self._model(self._token, self._states, self._position)
            for fixed, state in zip(self._fixed, self._lightning, strict=True):
                fixed.copy_(state.tensor)
        finally:
            for fixed, state in zip(self._fixed, self._lightning, strict=True):
                state.tensor = fixed
        self._logits.copy_(self._model.logits(hidden)[0])
        self._token.copy_(self._sampler.choose(self._logits))
        self._drawn.index_copy_(0, self._at, self._token)
        self._at.add_(1)
        self._position.add_(1)


class GraphDecodeLoop:
    """`engine.decode.DecodeLoop` by steppers: at most `limit` tokens, tokens read while others
    run."""

    def __init__(
        self, context: Context, sampler: SamplerProtocol, limit: int, *, record: bool = True
    ) -> None:
        self._context, self._sampler, self._limit = context, sampler, limit
        self._record = record
        self._stepper: GraphStepper | None = None
        self._before = 0  # tokens that the context has read already
        self._tokens: list[int] = []
        self._ready: deque[int] = deque()
        self._current: Batch | None = None
        self._queued: Batch | None = None

    def next(self) -> int:
        if not self._tokens:
            self._begin()
        elif not self._ready:
            self._read_on()
        self._tokens.append(self._ready.popleft())
        return self._tokens[-1]

    def finish(self, num_read: int) -> None:
        stepper, self._stepper = self._stepper, None
        if stepper is not None:
            batches = [batch for batch in (self._current, self._queued) if batch is not None]
            stepper.commit(self._tokens[self._before : num_read], batches)

    @torch.inference_mode()
    def _begin(self) -> None:
        if self._context.logits is None:
            raise ValueError("an empty context cannot be continued; extend it first")
        token = self._sampler.choose(self._context.logits).view(1)
        host, wait = to_host(token)
        self._renew(token)
        self._queued = self._start()
        wait()
        self._ready.extend(host.tolist())

    def _read_on(self) -> None:
        if self._queued is None:
            self._context_reads_all()
        self._current, self._queued = self._queued, None
        assert self._current is not None, "more tokens than the limit"
        self._queued = self._start()
        self._current.wait()
        self._ready.extend(self._current.drawn.tolist())

    def _context_reads_all(self) -> None:
        """All there was room for has been drawn: makes room."""
        num_read = self._before + self._num_started
        self.finish(num_read)
        self._before, self._current = num_read, None
        self._renew(torch.tensor(self._tokens[-1:], device=self._context.model.device))
        self._queued = self._start()

    def _renew(self, token: Tensor) -> None:
        limit = max(self._limit - 1 - self._before, 0)
        self._stepper = GraphStepper(
            self._context, self._sampler, token, limit, record=self._record
        )

    @property
    def is_recorded(self) -> bool:
        """Whether steps are replayed by now."""
        return self._stepper is not None and self._stepper.is_recorded

    @property
    def record_error(self) -> str | None:
        return self._stepper.record_error if self._stepper is not None else None

    @property
    def _num_started(self) -> int:
        return self._stepper.num_started if self._stepper is not None else 0

    def _start(self) -> Batch | None:
        assert self._stepper is not None
        num_left = self._stepper.num_steps - self._stepper.num_started
        return self._stepper.start(min(num_left, BATCH_TOKENS)) if num_left else None


def to_host(tensor: Tensor) -> tuple[Tensor, Callable[[], None]]:
    """A copy on the host, and what waits until it holds what is queued to be in it."""
    if tensor.device.type != "cuda":
        return tensor.clone(), lambda: None
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return host, event.synchronize
