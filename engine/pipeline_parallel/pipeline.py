"""Chunks that pass through all stages of a model at once.

While a stage works on a chunk, the next stage works on the chunk before it. Each stage has a thread
of its own, and its weights, states, keys and values never leave its device; hidden rows do. What
every chunk is multiplied with, in which shape, is as in `chunk_major`, and so are the bits.
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.layers.kv_cache import KVCache
from engine.model import LayerState
from engine.pipeline_parallel.model import StagedModel
from engine.prefill import PrefillRequest

WAITING_CHUNKS = 2  # that may wait between two stages


@dataclass(slots=True)
class _Passing:
    """A chunk on its way: behind some stages, and the states of these behind it."""

    which: int
    first: int
    last: int
    hidden: Tensor
    states: list[LayerState]


class _Over(Exception):  # noqa: N818 (no error: the end)
    """The pipeline is stopped."""


class _Lines:
    """One line of waiting chunks behind each stage. Every wait ends with `stop`."""

    def __init__(self, num_lines: int) -> None:
        self._lines: list[deque[_Passing]] = [deque() for _ in range(num_lines)]
        self._moved = threading.Condition()
        self._is_over = False

    def put(self, line: int, passing: _Passing) -> None:
        with self._moved:
            self._moved.wait_for(lambda: self._is_over or len(self._lines[line]) < WAITING_CHUNKS)
            if self._is_over:
                raise _Over
            self._lines[line].append(passing)
            self._moved.notify_all()

    def get(self, line: int) -> _Passing:
        with self._moved:
            self._moved.wait_for(lambda: self._is_over or self._lines[line])
            if self._is_over:
                raise _Over
            passing = self._lines[line].popleft()
            self._moved.notify_all()
            return passing

    def stop(self) -> None:
        with self._moved:
            self._is_over = True
            self._moved.notify_all()


class _Pipeline:
    """The threads of all stages, each with states of its own, ahead of those of `requests`.

    A state that runs ahead begins as a shallow copy: constant states are replaced and never written
    into, and keys and values are only appended to blocks that both have. So a copy of it taken
    behind a chunk is that layer's state behind this chunk, at no cost, for as long as nobody but
    the stage appends.
    """

    def __init__(self, model: StagedModel, requests: Sequence[PrefillRequest]) -> None:
        self._model, self._requests = model, requests
        self._states = [[copy(state) for state in request.states] for request in requests]
        self.num_chunks = sum(1 for request in requests for _ in request.borders())
        self._lines = _Lines(len(model.stages))
        self._error: BaseException | None = None
        self._modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"stage {number}", daemon=True)
            for number in range(len(model.stages))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def next(self) -> _Passing:
        """The next chunk that is through. Raises what stopped the pipeline."""
        try:
            return self._lines.get(len(self._threads) - 1)
        except _Over:
            assert self._error is not None
            raise self._error from None

    def stop(self) -> None:
        """Returns when no stage works any more."""
        self._lines.stop()
        for thread in self._threads:
            if thread.ident is not None:  # it was started
                thread.join()

    def _work(self, number: int) -> None:
        inference, grad = self._modes
        try:
            with torch.inference_mode(inference), torch.set_grad_enabled(grad):
                for passing in self._incoming(number):
                    self._pass(number, passing)
                    self._lines.put(number, passing)
        except _Over:
            pass
        except BaseException as error:
            self._error = self._error or error
            self._lines.stop()

    def _incoming(self, number: int) -> Iterator[_Passing]:
        if number == 0:
            for which, request in enumerate(self._requests):
                for first, last in request.borders():
                    hidden = request.embed(self._model, first, last)
                    yield _Passing(which, first, last, hidden, [])
            return
        for _ in range(self.num_chunks):
            yield self._lines.get(number - 1)

    def _pass(self, number: int, passing: _Passing) -> None:
        stage = self._model.stages[number]
        states = self._states[passing.which][stage.first : stage.last]
        passing.hidden = self._model.run(stage, passing.hidden, states, passing.first)
        passing.states += [copy(state) for state in states]


def by_stage(
    model: StagedModel, requests: Sequence[PrefillRequest]
) -> Iterator[tuple[int, int, Tensor]]:
    """What `chunk_major` yields for each of `requests`, bit by bit, with which of them it is.

    After each yield the states of that request stand at the position reached, although stages are
    ahead of it; between yields they do not agree. If any stage fails all end, and its error is
    raised. When iteration ends, or is closed, no stage works any more.
    """
    pipeline = _Pipeline(model, requests)
    try:
        pipeline.start()
        for _ in range(pipeline.num_chunks):
            passing = pipeline.next()
            states = requests[passing.which].states
            for state, reached in zip(states, passing.states, strict=True):
                vars(state).update(vars(reached))
            yield passing.which, passing.last, passing.hidden
    finally:
        pipeline.stop()
        for request in requests:
            for state in request.states:
                if isinstance(state, KVCache):
                    state.cut(0)


def pipelined(model: StagedModel, request: PrefillRequest) -> Iterator[tuple[int, Tensor]]:
    """`by_stage` for one request: in place of `chunk_major` where there are chunks enough."""
    for _, last, hidden in by_stage(model, [request]):
        yield last, hidden
