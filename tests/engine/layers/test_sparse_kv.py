"""Red here means that blocks are chosen by the means of other keys than there are."""

import pytest
import torch

from engine.layers import kv_cache
from engine.layers.sparse_kv import SparseCache
from kernels.attention import dense

STRIDE, BLOCK = 4, 16


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(kv_cache, "BLOCK_TOKENS", BLOCK)


def rows(count, seed):
    return torch.randn(2, count, 2, 8, generator=torch.Generator().manual_seed(seed))


def assert_sums(cache):
    """Those of the keys as they are kept, bit by bit whatever was read or forgotten before."""
    keys = torch.cat([dense(k, torch.float32) for k, _ in cache.segments()])
    whole = keys[: len(keys) // STRIDE * STRIDE].transpose(0, 1).view(2, -1, STRIDE, 8)
    want = (whole[:, :, 0] + whole[:, :, 2]) + (whole[:, :, 1] + whole[:, :, 3])
    assert torch.equal(torch.cat(cache.sums(), dim=1), want)
    done = cache.sums()[0]
    assert done.shape[1] == cache.num_tokens // BLOCK * (BLOCK // STRIDE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
def test_sums_follow_what_is_kept(dtype):
    cache = SparseCache(2, 8, dtype, torch.device("cpu"), stride=STRIDE)
    steps = [(6, 0), (5, 3), (30, 9), (1, 1), (2, 1), (13, 5), (40, 17)]
    for seed, (count, cut) in enumerate(steps):
        cache.append(*rows(count, seed))
        assert_sums(cache)
        cache.cut(cut)
        cache.append(*rows(3, 100 + seed))
        twin = cache.fork()
        twin.append(*rows(7, 200 + seed))
        assert_sums(cache)
        assert_sums(twin)


def test_saved_blocks_bring_their_sums():
    cache = SparseCache(2, 8, torch.float32, torch.device("cpu"), stride=STRIDE)
    cache.append(*rows(43, 0))
    blocks = [cache.block(index) for index in range(3)]
    for block, count in zip(blocks, (16, 16, 11), strict=True):
        told = {name: (tuple(t.shape), t.dtype) for name, t in block.items()}
        assert told == cache.block_shapes(count)
    for last in (11, 5):
        other = SparseCache(2, 8, torch.float32, torch.device("cpu"), stride=STRIDE)
        for index, count in enumerate((16, 16, last)):
            other.adopt(index, blocks[index], count)
        assert_sums(other)
        other.append(*rows(30, 3))
        assert_sums(other)
    cache.adopt(0, blocks[0], 16)
    assert_sums(cache)
    cache.adopt(1, blocks[1], 7)  # what stood behind is gone
    assert_sums(cache)
