"""Red here means tokens are lost where blocks grow, or a short context takes the room of a long."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.layers import kv_cache
from engine.layers.kv_cache import KVCache
from kernels import Int8Tensor

BLOCK, FIRST, HEADS, WIDTH = 16, 2, 2, 4
ROW_BYTES = {torch.float32: 2 * HEADS * WIDTH * 4, torch.int8: 2 * HEADS * (WIDTH + 4)}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(kv_cache, "BLOCK_TOKENS", BLOCK)
    monkeypatch.setattr(kv_cache, "_FIRST_TOKENS", FIRST)


def rows_of(cache):
    pairs = [
        [part.dequantize(torch.float32) if isinstance(part, Int8Tensor) else part for part in pair]
        for pair in cache.segments()
    ]
    empty = torch.empty(0, HEADS, WIDTH)
    return [torch.cat([empty, *(pair[which] for pair in pairs)]) for which in (0, 1)]


STEPS = st.lists(
    st.tuples(st.sampled_from(["append", "cut", "fork"]), st.integers(1, 40)), max_size=12
)


@settings(deadline=None, max_examples=100)
@given(STEPS, st.sampled_from([torch.float32, torch.int8]))
def test_whatever_grows_is_cut_and_forked_holds_what_was_put_in(steps, dtype):
    """And no more room than is counted: half of a last block of more than a few tokens is used."""
    cache = KVCache(HEADS, WIDTH, dtype, torch.device("cpu"))
    whole = KVCache(HEADS, WIDTH, dtype, torch.device("cpu"))  # what int8 makes of all at once
    held, since_fork = torch.empty(0, HEADS, WIDTH), 0
    before = []
    for seed, (step, count) in enumerate(steps):
        if step == "append":
            new = torch.randn(count, HEADS, WIDTH, generator=torch.Generator().manual_seed(seed))
            cache.append(new, -new)
            held, since_fork = torch.cat([held, new]), since_fork + count
        elif step == "cut":
            count = min(count, since_fork)
            cache.cut(count)
            held, since_fork = held[: len(held) - count], since_fork - count
        else:
            before.append((cache, [rows.clone() for rows in rows_of(cache)]))
            cache, since_fork = cache.fork(), 0
            assert cache.num_bytes == kv_cache.capacity(len(held)) * ROW_BYTES[dtype]
        assert cache.num_tokens == len(held)
        assert kv_cache.capacity(len(held)) * ROW_BYTES[dtype] <= cache.num_bytes
    if len(held):
        whole.append(held, -held)
    assert all(map(torch.equal, rows_of(cache), rows_of(whole)))
    for origin, rows in before:  # what forks did is not seen
        assert all(map(torch.equal, rows_of(origin), rows))


@given(st.integers(0, 5 * BLOCK))
def test_room_is_for_all_tokens_and_less_than_twice_as_many(num_tokens):
    room = kv_cache.capacity(num_tokens)
    assert num_tokens <= room <= max(2 * num_tokens, FIRST * (num_tokens > 0))
    assert room - num_tokens < BLOCK
