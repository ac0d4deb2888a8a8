"""A cache of parts of layers, read from disk on demand and ahead of it."""

import atexit
import threading
import time
from dataclasses import dataclass, replace
from weakref import WeakSet

from engine import threads
from engine.errors import PlacementError
from engine.protocols import IoStats
from engine.streamed.prefetch import PrefetchPlan
from engine.streamed.weight_groups import GroupKey, Reader, WeightGroup


@dataclass(slots=True)
class _Entry:
    part: WeightGroup
    num_bytes: int
    num_users: int = 0
    last_used: int = 0


_open_pools: WeakSet["WeightCache"] = WeakSet()


@atexit.register
def _close_all() -> None:
    """A thread that still reads when the interpreter ends would abort the process."""
    for pool in list(_open_pools):
        pool.close()


class WeightCache:
    """Holds at most `pool_bytes` of parts. One thread of its own reads, and only while it has to.

    A part in use is never dropped. Of the others the one goes first whose next use is furthest
    away by the `schedule`; among those that nobody expects, the one not used for longest. Reading
    ahead drops only what is used later than what is read. One caller's thread; no two at once.
    """

    def __init__(self, reader: Reader, schedule: PrefetchPlan, pool_bytes: int) -> None:
        self._reader, self._schedule, self._pool_bytes = reader, schedule, pool_bytes
        self._all_bytes = pool_bytes
        self._changed = threading.Condition()
        self._entries: dict[GroupKey, _Entry] = {}
        self._held_bytes = 0  # of entries, and of the part that is being read
        self._wanted: GroupKey | None = None
        self._errors: dict[GroupKey, BaseException] = {}
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._clock = 0
        self._done = IoStats()
        _open_pools.add(self)

    @property
    def done(self) -> IoStats:
        with self._changed:
            return replace(self._done)

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    @property
    def free_bytes(self) -> int:
        return self._pool_bytes - self._held_bytes

    @property
    def schedule(self) -> PrefetchPlan:
        return self._schedule

    def follow(self, schedule: PrefetchPlan) -> None:
        """What is expected has changed; reading ahead goes by `schedule` from now on."""
        with self._changed:
            self._schedule = schedule
            self._start()

    def take(self, key: GroupKey) -> WeightGroup:
        """The part, which stays until it is released as often as it was taken.

        Waits for it to be read. Raises what reading raised, now or ahead (another call tries
        again), and PlacementError if it does not fit beside the parts in use.
        """
        with self._changed:
            self._done.num_uses += 1
            if key in self._entries:
                self._done.num_hits += 1
            else:
                self._wait_for(key)
            entry = self._entries[key]
            entry.num_users += 1
            return entry.part

    def held(self, key: GroupKey) -> WeightGroup:
        """A part that was taken and not released since."""
        return self._entries[key].part

    def _wait_for(self, key: GroupKey) -> None:
        began = time.perf_counter()
        self._wanted = key
        try:
            while key not in self._entries:
                if (error := self._errors.pop(key, None)) is not None:
                    raise error
                self._start()
                if self._thread is None:
                    raise PlacementError(
                        f"a part of layer {key.layer} takes {self._reader.num_bytes(key):,} bytes; "
                        f"of {self._pool_bytes:,} for weights, those in use leave too few"
                    )
                self._changed.wait()
        finally:
            self._wanted = None
            self._done.waited_s += time.perf_counter() - began

    def release(self, key: GroupKey) -> None:
        with self._changed:
            if (entry := self._entries.get(key)) is None:
                return  # it was released by all means
            entry.num_users = max(entry.num_users - 1, 0)
            self._clock += 1
            entry.last_used = self._clock
            entry.part.note_use()
            self._start()

    def release_all(self) -> None:
        """Nothing is in use any more, whatever was interrupted."""
        with self._changed:
            for entry in self._entries.values():
                entry.num_users = 0

    def reserve(self, num_bytes: int, kept_bytes: int) -> bool:
        """Holds so much less, in all, until the next call; between passes, when no part is in use.

        When it returns that much is free. False, and all is as before, if it would leave less than
        `kept_bytes`.
        """
        with self._changed:
            if self._all_bytes - num_bytes < kept_bytes:
                return False
            self._pool_bytes = self._all_bytes - num_bytes
            self._drop()
            while self._thread is not None and self._held_bytes > self._pool_bytes:
                self._changed.wait()  # what is being read has its room yet
                self._drop()
            return True

    def _drop(self) -> None:
        """What is used last, until the rest may stay."""
        next_use = self._schedule.next_use
        free = [
            (next_use(key), -entry.last_used, key)
            for key, entry in self._entries.items()
            if not entry.num_users
        ]
        for _, _, key in sorted(free, reverse=True):
            if self._held_bytes <= self._pool_bytes:
                return
            entry = self._entries.pop(key)
            entry.part.wait()
            self._held_bytes -= entry.num_bytes

    def close(self) -> None:
        """Drops all parts; returns when nothing is being read."""
        with self._changed:
            self._is_closed = True
            while self._thread is not None:
                self._changed.wait()
            self._entries.clear()
            self._held_bytes = 0

    def _start(self) -> None:
        """Lets the thread read, if there is anything to read and room for it."""
        if self._thread is None and self._next() is not None:
            self._thread = threading.Thread(target=self._work, daemon=True, name="weights")
            try:
                threads.start(self._thread)
            except RuntimeError:
                self._thread = None
                raise

    def _next(self) -> tuple[GroupKey, list[GroupKey]] | None:
        """What to read next, and what to drop for it."""
        if self._is_closed:
            return None
        if (wanted := self._wanted) is not None and wanted not in self._entries:
            if wanted in self._errors:
                return None
            dropped = self._room(wanted, is_wanted=True)
            return None if dropped is None else (wanted, dropped)
        for key in self._schedule.ahead():
            if key not in self._entries:
                if key in self._errors:
                    return None
                dropped = self._room(key, is_wanted=False)
                return None if dropped is None else (key, dropped)
        return None

    def _room(self, key: GroupKey, *, is_wanted: bool) -> list[GroupKey] | None:
        """What to drop so that `key` fits; None if it cannot, or must wait for something sooner."""
        missing = self._held_bytes + self._reader.num_bytes(key) - self._pool_bytes
        if missing <= 0:
            return []
        next_use = self._schedule.next_use
        free = [
            (next_use(k), -entry.last_used, k)
            for k, entry in self._entries.items()
            if not entry.num_users and k != self._wanted  # who waits for it has it in a moment
        ]
        dropped = []
        for use, _, other in sorted(free, reverse=True):
            if not is_wanted and use <= next_use(key):
                return None
            dropped.append(other)
            missing -= self._entries[other].num_bytes
            if missing <= 0:
                return dropped
        return None

    def _work(self) -> None:
        while True:
            with self._changed:
                found = self._next()
                if found is None:
                    self._thread = None
                    self._changed.notify_all()
                    return
                key, others = found
                entries = [self._entries.pop(other) for other in others]
                num_bytes = self._reader.num_bytes(key)
                self._held_bytes += num_bytes - sum(entry.num_bytes for entry in entries)
                dropped = [entry.part for entry in entries]
                del entries
            part, error = None, None
            try:
                part = self._reader.read(key, dropped)
            except BaseException as raised:  # whatever it is belongs to who wants the part
                error = raised
            del dropped
            with self._changed:
                if part is not None:
                    self._entries[key] = _Entry(part, num_bytes, last_used=self._clock)
                    self._done.num_reads += 1
                    self._done.read_bytes += self._reader.read_bytes(key)
                elif error is not None:
                    self._held_bytes -= num_bytes
                    self._errors[key] = error
                self._changed.notify_all()
            del part
