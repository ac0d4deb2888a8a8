"""Several pieces of work with one model, run so that each pass over its layers serves all of them.

What a piece of work asks of the model, whether it reads a question, writes a token or judges a
passage, it asks through a `Context`. There it stops until the others want something too, and then
one pass over the layers gives each what it wants. So a model whose weights come from a disk reads
them once for all questions, and nothing that asks has to know.

Each piece of work has a thread to stop in, but only one of all threads runs at a time, in a fixed
order: the same work gives the same results, and shared things need no locks. Passes run on the
thread that called.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from contextvars import copy_context
from functools import partial
from typing import Any, Generic, TypeVar

from engine import threads
from engine.model import Model
from engine.pipeline_parallel.model import StagedModel
from engine.pipeline_parallel.pipeline import by_stage
from engine.prefill import Chunk, PrefillRequest, layer_major_batch

MOST_AT_ONCE = 16  # the others begin when these end

T = TypeVar("T")
_thread = threading.local()


class Stopped(BaseException):
    """Raised inside of work that is not to go on: another one failed, or the user interrupts."""


class Task(Generic[T]):
    """One piece of work, in a thread that runs only between `resume` and its next stop."""

    def __init__(self, meeting: "Scheduler", work: Callable[[], T], num_bytes: int) -> None:
        self._meeting, self._work = meeting, work
        self.num_bytes = num_bytes  # of the states it holds at most
        self._may_run = threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self._is_stopped = False
        self.stretch: PrefillRequest | None = None  # what it waits for
        self.found: list[Chunk] = []
        self.parts: list[Task[Any]] = []  # and what else: work it has handed out itself
        self.results: list[T] = []
        self.error: BaseException | None = None
        self.is_done = False

    @property
    def has_begun(self) -> bool:
        return self._thread is not None

    @property
    def is_ready(self) -> bool:
        waits = self.stretch is not None or any(not part.is_done for part in self.parts)
        return not self.is_done and not waits

    @property
    def is_under_way(self) -> bool:
        return self.has_begun and not self.is_done

    def read(self, stretch: PrefillRequest) -> Iterator[Chunk]:
        """What a pass gives for `stretch`; called by the work itself, as is `spawn`."""
        self.stretch = stretch
        self._pause()
        found, self.found = self.found, []
        yield from found

    def spawn(self, works: Sequence[Callable[[], Any]], work_bytes: int) -> list[Any]:
        self.parts = [Task(self._meeting, work, work_bytes) for work in works]
        self._meeting.submit(self.parts)
        self._pause()
        parts, self.parts = self.parts, []
        return results_of(parts)

    def resume(self) -> None:
        """Lets it run until it waits for something, or is done."""
        if self._thread is None:
            run = copy_context().run
            self._thread = threading.Thread(target=run, args=(self._run,), name="work", daemon=True)
            threads.start(self._thread)
        else:
            self._may_run.release()

    def stop(self) -> None:
        """Ends it where it waits, or where it will wait next; returns when it has ended."""
        for part in self.parts:
            part.stop()
        self._is_stopped = True
        if self._thread is None:
            self.is_done = True
        elif not self.is_done:
            self._may_run.release()
            self._thread.join()

    def _pause(self) -> None:
        if not self._is_stopped:
            self._meeting.yield_()
            self._may_run.acquire()
        if self._is_stopped:
            raise Stopped

    def _run(self) -> None:
        _thread.job = self
        try:
            self.results = [self._work()]
        except BaseException as error:
            self.error = error
        finally:
            self.is_done = True
            if not self._is_stopped:  # else nobody waits for it but who joins its thread
                self._meeting.yield_()


class Scheduler:
    """`works` run together over `model`. Iterate to let them run: each round ends in a pass.

    The error of one ends those behind it, not those before it: they are worth finishing, as they
    would have been if asked one after another.
    """

    def __init__(self, model: Model, works: Sequence[Callable[[], Any]], work_bytes: int) -> None:
        self.model = model
        self._turn = threading.Semaphore(0)
        self._families: list[list[Task[Any]]] = []
        self.jobs: list[Task[Any]] = [Task(self, work, work_bytes) for work in works]
        self.submit(self.jobs)

    def submit(self, jobs: list[Task[Any]]) -> None:
        self._families.append(jobs)

    def yield_(self) -> None:
        """Lets the thread that runs the passes go on; called by the one job that runs."""
        self._turn.release()

    def __iter__(self) -> Generator[None, None, None]:
        try:
            while any(not job.is_done for job in self.jobs):
                while (job := self._next()) is not None:
                    job.resume()
                    self._turn.acquire()
                    self._cancel_after_failure()
                    yield
                self._pass()
        finally:
            for job in self.jobs:
                job.stop()
            self.model.reserve(0)

    def _next(self) -> Task[Any] | None:
        # Parts before whole new works, so that what has begun comes to its end.
        families = [*self._families[1:], *self._families[:1]]
        jobs = [job for family in families for job in family]
        for job in jobs:
            if job.is_ready and (job.has_begun or self._has_room(job, jobs)):
                return job
        return None

    def _has_room(self, new: Task[Any], jobs: Sequence[Task[Any]]) -> bool:
        """Whether `new` can begin beside those that have; alone it can in any case."""
        under_way = [job for job in jobs if job.is_under_way]
        num_bytes = sum(threads.STACK_BYTES + job.num_bytes for job in (new, *under_way))
        num_others = sum(not job.parts for job in under_way)  # the rest wait for their parts
        if num_others >= MOST_AT_ONCE:
            return False
        return self.model.reserve(num_bytes, at_any_cost=not num_others) or not num_others

    def _cancel_after_failure(self) -> None:
        for family in self._families:
            failed = [job.error is not None for job in family]
            if any(failed):
                for job in family[failed.index(True) + 1 :]:
                    job.stop()
        self._families = [f for f in self._families if any(not job.is_done for job in f)]

    def _pass(self) -> None:
        jobs = [job for family in self._families for job in family]
        asking = [job for job in jobs if job.stretch is not None and not job.is_done]
        stretches = [job.stretch for job in asking if job.stretch is not None]
        if not stretches:
            return
        if isinstance(self.model, StagedModel):
            found: list[list[Chunk]] = [[] for _ in stretches]
            for which, last, hidden in by_stage(self.model, stretches):
                found[which].append((last, hidden))
        else:
            found = layer_major_batch(self.model, stretches)
        for job, chunks in zip(asking, found, strict=True):
            job.stretch, job.found = None, chunks


def current_task(model: Model) -> Task[Any] | None:
    """The job that this thread runs, if it meets others over `model`."""
    job: Task[Any] | None = getattr(_thread, "job", None)
    return job if job is not None and job._meeting.model is model else None


def run_shared(model: Model, works: Sequence[Callable[[], T]], work_bytes: int = 0) -> list[T]:
    """The results of `works`, in their order, with passes over the layers shared between them.

    As many at once as memory has room for the states of, `work_bytes` each. Inside of such work it
    hands out parts of it. Raises the error of the first work that fails, when those before it are
    done. KeyboardInterrupt ends all.
    """
    job = current_task(model)
    if job is not None:
        return job.spawn(works, work_bytes)
    meeting = Scheduler(model, works, work_bytes)
    with closing(iter(meeting)) as rounds:
        for _ in rounds:
            pass
    return results_of(meeting.jobs)


def results_of(jobs: Sequence[Task[T]]) -> list[T]:
    for job in jobs:
        if job.error is not None:
            raise job.error
    return [result for job in jobs for result in job.results]


def pieces(model: Model, answers: Sequence[Iterable[str]]) -> Iterator[tuple[int, str]]:
    """The text of `answers` (see `Decoding`) written together, as (which one, its next piece).

    Pieces of one answer come in their order. If iteration ends early all answers end with it.
    """
    told: deque[tuple[int, str]] = deque()

    def listen(which: int, answer: Iterable[str]) -> None:
        for piece in answer:
            told.append((which, piece))

    works = [partial(listen, which, answer) for which, answer in enumerate(answers)]
    meeting = Scheduler(model, works, 0)  # their contexts are there already
    with closing(iter(meeting)) as rounds:
        for _ in rounds:
            while told:
                yield told.popleft()
    results_of(meeting.jobs)
