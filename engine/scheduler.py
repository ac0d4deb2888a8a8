"""A cooperative scheduler of tasks with one model: each pass over its layers serves all of them.

What a task asks of the model, whether it reads a question, decodes a token or reranks a passage, it
asks through a `Context`. There it stops until the others want something too, and then one pass over
the layers gives each what it wants. So a model whose weights come from a disk reads them once for
all requests, and nothing that asks has to know.

Each task has a thread to stop in, but only one of all threads runs at a time, in a fixed order: the
same tasks give the same results, and shared things need no locks. Passes run on the thread that
called.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
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
    """Raised inside of a task that is not to go on: another failed, or the user interrupts."""


class Task(Generic[T]):
    """Work in a thread that runs only between `resume` and its next stop."""

    def __init__(self, scheduler: "Scheduler", work: Callable[[], T], num_bytes: int) -> None:
        self._scheduler, self._work = scheduler, work
        self.num_bytes = num_bytes  # of the states it holds at most
        self._may_run = threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self._is_stopped = False
        self.request: PrefillRequest | None = None  # what it waits for
        self.found: list[Chunk] = []
        self.children: list[Task[Any]] = []  # and what else: what it has spawned
        self.results: list[T] = []
        self.error: BaseException | None = None
        self.is_done = False

    @property
    def has_begun(self) -> bool:
        return self._thread is not None

    @property
    def is_ready(self) -> bool:
        waits = self.request is not None or any(not child.is_done for child in self.children)
        return not self.is_done and not waits

    @property
    def is_under_way(self) -> bool:
        return self.has_begun and not self.is_done

    def read(self, request: PrefillRequest) -> Iterator[Chunk]:
        """What a pass gives for `request`; called by the task itself, as is `spawn`."""
        self.request = request
        self._pause()
        found, self.found = self.found, []
        yield from found

    def spawn(self, works: Sequence[Callable[[], Any]], work_bytes: int) -> list[Any]:
        self.children = [Task(self._scheduler, work, work_bytes) for work in works]
        self._scheduler.submit(self.children)
        self._pause()
        children, self.children = self.children, []
        return results_of(children)

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
        for child in self.children:
            child.stop()
        self._is_stopped = True
        if self._thread is None:
            self.is_done = True
        elif not self.is_done:
            self._may_run.release()
            self._thread.join()

    def _pause(self) -> None:
        if not self._is_stopped:
            self._scheduler.yield_()
            self._may_run.acquire()
        if self._is_stopped:
            raise Stopped

    def _run(self) -> None:
        _thread.task = self
        try:
            self.results = [self._work()]
        except BaseException as error:
            self.error = error
        finally:
            self.is_done = True
            if not self._is_stopped:  # else nobody waits for it but who joins its thread
                self._scheduler.yield_()


class Scheduler:
    """Tasks for `works`, which share passes over `model`.

    The error of one ends those behind it, not those before it: they are worth finishing, as they
    would have been if asked one after another.
    """

    def __init__(self, model: Model, works: Sequence[Callable[[], Any]], work_bytes: int) -> None:
        self.model = model
        self._turn = threading.Semaphore(0)
        self._families: list[list[Task[Any]]] = []
        self.tasks: list[Task[Any]] = [Task(self, work, work_bytes) for work in works]
        self.submit(self.tasks)

    def submit(self, tasks: list[Task[Any]]) -> None:
        self._families.append(tasks)

    def yield_(self) -> None:
        """Lets the thread that runs the passes go on; called by the one task that runs."""
        self._turn.release()

    def run(self) -> None:
        """Returns when all are done; any exception here ends them."""
        try:
            while any(not task.is_done for task in self.tasks):
                while (task := self._next()) is not None:
                    task.resume()
                    self._turn.acquire()
                    self._cancel_after_failure()
                self._pass()
        finally:
            for task in self.tasks:
                task.stop()
            self.model.reserve(0)

    def _next(self) -> Task[Any] | None:
        # Children before whole new tasks, so that what has begun comes to its end.
        families = [*self._families[1:], *self._families[:1]]
        tasks = [task for family in families for task in family]
        for task in tasks:
            if task.is_ready and (task.has_begun or self._has_room(task, tasks)):
                return task
        return None

    def _has_room(self, new: Task[Any], tasks: Sequence[Task[Any]]) -> bool:
        """Whether `new` can begin beside those that have; alone it can in any case."""
        under_way = [task for task in tasks if task.is_under_way]
        num_bytes = sum(threads.STACK_BYTES + task.num_bytes for task in (new, *under_way))
        num_others = sum(not task.children for task in under_way)  # the rest wait for theirs
        if num_others >= MOST_AT_ONCE:
            return False
        return self.model.reserve(num_bytes, at_any_cost=not num_others) or not num_others

    def _cancel_after_failure(self) -> None:
        for family in self._families:
            failed = [task.error is not None for task in family]
            if any(failed):
                for task in family[failed.index(True) + 1 :]:
                    task.stop()
        self._families = [f for f in self._families if any(not task.is_done for task in f)]

    def _pass(self) -> None:
        tasks = [task for family in self._families for task in family]
        asking = [task for task in tasks if task.request is not None and not task.is_done]
        requests = [task.request for task in asking if task.request is not None]
        if not requests:
            return
        if isinstance(self.model, StagedModel):
            found: list[list[Chunk]] = [[] for _ in requests]
            for which, last, hidden in by_stage(self.model, requests):
                found[which].append((last, hidden))
        else:
            found = layer_major_batch(self.model, requests)
        for task, chunks in zip(asking, found, strict=True):
            task.request, task.found = None, chunks


def current_task(model: Model) -> Task[Any] | None:
    """The task that this thread runs, if it shares passes over `model` with others."""
    task: Task[Any] | None = getattr(_thread, "task", None)
    return task if task is not None and task._scheduler.model is model else None


def run_shared(model: Model, works: Sequence[Callable[[], T]], work_bytes: int = 0) -> list[T]:
    """The results of `works`, in their order, with passes over the layers shared between them.

    As many at once as memory has room for the states of, `work_bytes` each. Inside of a task it
    spawns children. Raises the error of the first work that fails, when those before it are
    done. KeyboardInterrupt ends all.
    """
    task = current_task(model)
    if task is not None:
        return task.spawn(works, work_bytes)
    scheduler = Scheduler(model, works, work_bytes)
    scheduler.run()
    return results_of(scheduler.tasks)


def results_of(tasks: Sequence[Task[T]]) -> list[T]:
    for task in tasks:
        if task.error is not None:
            raise task.error
    return [result for task in tasks for result in task.results]
