"""Red here means more memory is taken than was planned, weights change while they are used, or an
error of the reading thread is lost."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import CheckpointError, PlacementError
from engine.streamed.prefetch import PrefetchPlan
from engine.streamed.weight_cache import WeightCache
from engine.streamed.weight_groups import DENSE, GroupKey, WeightGroup

LAYERS, EXPERTS, DENSE_BYTES, EXPERT_BYTES = 4, 3, 30, 10
EVERYTHING = LAYERS * (DENSE_BYTES + EXPERTS * EXPERT_BYTES)


class Disk:
    """A reader that keeps account of what is alive, and fails for the keys it is told to."""

    def __init__(self):
        self.alive, self.peak_bytes, self.read_keys, self.broken = {}, 0, [], set()
        self.delay_s = 0.0
        self.may_read_again = False

    def num_bytes(self, key):
        return DENSE_BYTES if key.expert == DENSE else EXPERT_BYTES

    read_bytes = num_bytes

    def read(self, key, dropped):
        time.sleep(self.delay_s)
        for part in dropped:
            del self.alive[part.weights["key"]]
        dropped.clear()
        if key in self.broken:
            raise CheckpointError(f"{key} cannot be read")
        assert self.may_read_again or key not in self.alive, "read while it is there"
        self.alive[key] = self.num_bytes(key)
        self.read_keys.append(key)
        self.peak_bytes = max(self.peak_bytes, sum(self.alive.values()))
        return WeightGroup({"key": key})


def pool_of(pool_bytes, **schedule):
    disk = Disk()
    return disk, WeightCache(disk, PrefetchPlan(LAYERS, EXPERTS, **schedule), pool_bytes)


def settled(pool):
    began = time.monotonic()
    while pool._thread is not None:
        assert time.monotonic() < began + 30, "reads without end"
        time.sleep(1e-4)


keys = st.builds(GroupKey, st.integers(0, LAYERS - 1), st.integers(DENSE, EXPERTS - 1))


@settings(deadline=None, max_examples=60)
@given(
    st.integers(DENSE_BYTES + EXPERT_BYTES, EVERYTHING),
    st.lists(st.tuples(st.integers(0, LAYERS - 1), st.sets(st.integers(0, EXPERTS - 1)))),
    st.booleans(),
)
def test_memory_is_bounded_and_parts_in_use_stay(pool_bytes, layers, is_wide):
    disk, pool = pool_of(pool_bytes)
    for layer, experts in layers:
        foreseen = {(layer + 1) % LAYERS: (0, 2)}
        pool.follow(PrefetchPlan(LAYERS, EXPERTS, layer, 0, tuple(experts), is_wide, foreseen))
        assert pool.take(GroupKey(layer)).weights["key"] == GroupKey(layer)
        for expert in sorted(experts):
            assert pool.take(GroupKey(layer, expert)).weights["key"] == GroupKey(layer, expert)
            assert {GroupKey(layer), GroupKey(layer, expert)} <= disk.alive.keys()
            pool.release(GroupKey(layer, expert))
        pool.release(GroupKey(layer))
    settled(pool)
    assert disk.peak_bytes <= pool_bytes
    assert pool.held_bytes == sum(disk.alive.values())
    done = pool.done
    assert done.num_uses == sum(1 + len(experts) for _, experts in layers)
    assert done.num_reads == len(disk.read_keys)
    assert done.read_bytes == sum(disk.num_bytes(key) for key in disk.read_keys)
    assert done.num_hits + done.num_reads >= done.num_uses


@settings(deadline=None, max_examples=40)
@given(
    st.integers(2 * DENSE_BYTES, EVERYTHING),
    st.integers(0, EVERYTHING),
    st.lists(st.integers(0, EVERYTHING), min_size=1, max_size=5),
)
def test_what_is_lent_is_not_held_and_comes_back(pool_bytes, kept_bytes, loans):
    disk = Disk()
    disk.may_read_again = True  # it is not told of what a loan drops
    schedule = PrefetchPlan(LAYERS, EXPERTS, pending=(0, 1, 2), all_experts=True)
    kept_bytes = max(min(kept_bytes, pool_bytes), DENSE_BYTES)
    pool = WeightCache(disk, schedule, pool_bytes)
    lent = 0
    for loan in loans:
        pool.take(GroupKey(0))  # and what is ahead is read while the loan is asked for
        pool.release(GroupKey(0))
        may = pool.reserve(loan, kept_bytes)
        assert may == (pool_bytes - loan >= kept_bytes)
        lent = loan if may else lent
        assert pool.held_bytes <= pool_bytes - lent
        pool.follow(schedule)
        settled(pool)
        assert pool.held_bytes == sum(disk.num_bytes(key) for key in pool._entries)
        assert pool.held_bytes <= pool_bytes - lent
    assert pool.reserve(0, kept_bytes)
    assert pool.free_bytes == pool_bytes - pool.held_bytes


def cycle(pool, num_passes, *, layers=LAYERS):
    for _ in range(num_passes):
        for layer in range(layers):
            pool.follow(PrefetchPlan(LAYERS, EXPERTS, layer))
            pool.take(GroupKey(layer))
            settled(pool)
            pool.release(GroupKey(layer))


def test_a_pool_for_all_dense_parts_reads_each_once_however_many_tokens_are_written():
    disk, pool = pool_of(LAYERS * DENSE_BYTES + EXPERT_BYTES)
    for token in range(5):
        for layer in range(LAYERS):
            pool.follow(PrefetchPlan(LAYERS, EXPERTS, layer))
            pool.take(GroupKey(layer))
            pool.take(GroupKey(layer, token % EXPERTS))
            pool.release(GroupKey(layer, token % EXPERTS))
            pool.release(GroupKey(layer))
    settled(pool)
    dense = [key for key in disk.read_keys if key.expert == DENSE]
    assert sorted(dense) == [GroupKey(layer) for layer in range(LAYERS)]


def test_a_pool_one_part_short_does_not_read_everything_again():
    """Dropping the oldest of parts that are used in a circle would."""
    disk, pool = pool_of((LAYERS - 1) * DENSE_BYTES)
    cycle(pool, 12)
    assert len(disk.read_keys) < 12 * LAYERS * 0.7


def test_the_next_layer_is_read_while_one_is_used():
    disk, pool = pool_of(EVERYTHING)
    pool.follow(PrefetchPlan(LAYERS, EXPERTS, 0, pending=(1,), all_experts=True))
    pool.take(GroupKey(0))
    settled(pool)
    wanted = [GroupKey(0), GroupKey(0, 1), *(GroupKey(1, expert) for expert in (DENSE, 0, 1, 2))]
    assert sorted(disk.read_keys) == sorted(wanted)
    assert pool.take(GroupKey(1)).weights["key"] == GroupKey(1)
    assert pool.done.num_hits == 1


def test_reading_ahead_leaves_what_is_used_sooner():
    disk, pool = pool_of(DENSE_BYTES + EXPERTS * EXPERT_BYTES + 5)
    pool.follow(PrefetchPlan(LAYERS, EXPERTS, 0, num_calls=1, pending=(0, 1, 2), all_experts=True))
    for key in (GroupKey(0), GroupKey(0, 0), GroupKey(0, 1), GroupKey(0, 2)):
        pool.take(key)
        pool.release(key)
    settled(pool)
    assert {key.layer for key in disk.alive} == {0}
    pool.follow(PrefetchPlan(LAYERS, EXPERTS, 0, num_calls=0, all_experts=True))
    settled(pool)
    assert GroupKey(1) in disk.alive


def test_an_error_of_the_thread_comes_out_where_the_part_is_asked_for():
    disk, pool = pool_of(EVERYTHING)
    disk.broken = {GroupKey(0, 1), GroupKey(1)}
    pool.take(GroupKey(0))
    with pytest.raises(CheckpointError, match="expert=1"):
        pool.take(GroupKey(0, 1))
    pool.follow(PrefetchPlan(LAYERS, EXPERTS, 0, pending=(2,)))  # reads layer 1 ahead, and fails
    settled(pool)
    with pytest.raises(CheckpointError, match="layer=1"):
        pool.take(GroupKey(1))
    disk.broken = set()
    assert pool.take(GroupKey(1)).weights["key"] == GroupKey(1)
    settled(pool)
    assert pool.held_bytes == sum(disk.alive.values())


def test_what_cannot_fit_is_refused_and_not_waited_for():
    _, pool = pool_of(2 * DENSE_BYTES + 5)
    pool.take(GroupKey(0))
    pool.take(GroupKey(1))
    with pytest.raises(PlacementError, match="layer 2 takes 30 bytes"):
        pool.take(GroupKey(2))
    pool.release(GroupKey(0))
    assert pool.take(GroupKey(2)).weights["key"] == GroupKey(2)


def test_an_interrupted_wait_leaves_a_pool_that_goes_on(monkeypatch):
    disk, pool = pool_of(DENSE_BYTES + EXPERT_BYTES)
    disk.delay_s = 0.05
    waiting = pool._changed.wait

    def interrupted():
        monkeypatch.setattr(pool._changed, "wait", waiting)
        raise KeyboardInterrupt

    pool.take(GroupKey(2))
    monkeypatch.setattr(pool._changed, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pool.take(GroupKey(2, 0))
    pool.release_all()
    assert pool.take(GroupKey(3)).weights["key"] == GroupKey(3)
    settled(pool)
    assert disk.peak_bytes <= DENSE_BYTES + EXPERT_BYTES


def test_no_thread_outlives_the_reading():
    _, pool = pool_of(EVERYTHING)
    pool.take(GroupKey(0))
    pool.close()
    assert pool._thread is None
    assert all(thread.name != "weights" for thread in threading.enumerate())
    assert pool.held_bytes == 0
