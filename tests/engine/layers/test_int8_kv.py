"""Red here means a cache in int8 loses more than rounding, or a fork of one shares what changes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from measure import relative_rms

import kernels
from engine.layers import kv_cache
from engine.layers.kv_cache import KVCache
from kernels import Int8Tensor
from kernels.attention import naive


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_row_is_off_by_at_most_half_its_scale():
    rows = random(50, 3, 16) * torch.logspace(-6, 6, 50)[:, None, None]
    rows[7] = 0
    found = Int8Tensor.quantize(rows)
    off = (found.dequantize() - rows).abs()
    assert (off <= 0.501 * found.scales[..., None]).all()
    assert torch.equal(found.dequantize()[7], rows[7])
    assert 1e-3 < relative_rms(found.dequantize(), rows) < 1e-2


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), st.none() | st.integers(1, 30))
def test_attention_over_int8_is_that_over_what_it_stands_for(sizes, window):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kv_cache, "BLOCK_TOKENS", 8)
        cache = KVCache(2, 16, torch.int8, torch.device("cpu"))
        for size in sizes:
            cache.append(random(size, 2, 16, seed=size), random(size, 2, 16, seed=99 + size))
        segments = cache.segments()
    assert len(segments) == -(-sum(sizes) // 8)
    q = random(sizes[-1], 6, 16)
    got = kernels.attention(q, segments, 0.25, window=window)
    assert relative_rms(got, naive.attention(q, segments, 0.25, window)) < 1e-5


def test_forks_grow_apart_bit_for_bit(monkeypatch):
    monkeypatch.setattr(kv_cache, "BLOCK_TOKENS", 8)
    cache = KVCache(2, 16, torch.int8, torch.device("cpu"))
    cache.append(random(13, 2, 16), random(13, 2, 16, seed=1))
    before = [k.dequantize().clone() for k, _ in cache.segments()]
    twin = cache.fork()
    twin.append(random(2, 2, 16, seed=2), random(2, 2, 16, seed=3))
    cache.append(random(2, 2, 16, seed=4), random(2, 2, 16, seed=5))
    ours, theirs = ([k.dequantize() for k, _ in c.segments()] for c in (cache, twin))
    assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1][:5], theirs[1][:5])
    assert torch.equal(ours[1][:5], before[1])
    assert not torch.equal(ours[1], theirs[1])
    assert cache.num_bytes == 2 * (2 * 8) * 2 * (16 + 4)  # two blocks of keys and of values
