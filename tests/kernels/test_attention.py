"""Red here means a query sees the wrong keys, or tiles are joined wrongly."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from measure import relative_rms

import kernels
from kernels.attention import jit, naive, sdpa, tiled


def inputs(num_queries, num_keys, num_heads=6, num_kv_heads=2, head_dim=16, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    q = 2 * random(num_queries, num_heads, head_dim)
    k = 2 * random(num_keys, num_kv_heads, head_dim)
    return q, k, random(num_keys, num_kv_heads, head_dim)


def by_products(q, segments, scale):
    """The path taken with gradients and on devices without the fused kernel."""
    return tiled.attention(q.requires_grad_(), segments, scale).detach()


@pytest.mark.parametrize("path", [tiled.attention, by_products, sdpa.attention])
@pytest.mark.parametrize(
    ("num_queries", "num_keys"),
    [(1, 1), (1, 2), (1, 1500), (7, 7), (7, 300), (255, 700), (513, 513), (600, 1700)],
)
def test_equals_the_definition(path, num_queries, num_keys):
    q, k, v = inputs(num_queries, num_keys)
    got = path(q, [(k, v)], 0.25)
    assert relative_rms(got, naive.attention(q, [(k, v)], 0.25)) < 1e-5


@pytest.mark.parametrize("num_kv_heads", [1, 2, 3, 6])
def test_heads_read_their_own_group(num_kv_heads):
    q, k, v = inputs(20, 50, num_kv_heads=num_kv_heads)
    got = tiled.attention(q, [(k, v)], 0.25)
    assert relative_rms(got, naive.attention(q, [(k, v)], 0.25)) < 1e-5


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 80), min_size=1, max_size=6), st.integers(1, 90), st.integers(0, 99))
def test_where_the_keys_are_cut_does_not_matter(cuts, num_queries, seed):
    num_keys = sum(cuts)
    q, k, v = inputs(min(num_queries, num_keys), num_keys, seed=seed)
    segments = list(zip(k.split(cuts), v.split(cuts), strict=True))
    got = tiled.attention(q, segments, 0.3)
    assert relative_rms(got, naive.attention(q, [(k, v)], 0.3)) < 1e-5


def test_the_future_cannot_be_seen():
    q, k, v = inputs(40, 100)
    before = tiled.attention(q, [(k, v)], 0.25)
    k[90:], v[90:] = -k[90:], 1e6
    after = tiled.attention(q, [(k, v)], 0.25)
    assert torch.equal(after[:30], before[:30])  # query 29 stands at position 89
    assert (after[30:] - before[30:]).abs().amin(dim=(1, 2)).min() > 0


def test_large_scores_do_not_overflow():
    q, k, v = inputs(30, 60)
    got = tiled.attention(100 * q, [(k, v)], 1.0)
    assert relative_rms(got, naive.attention(100 * q, [(k, v)], 1.0)) < 1e-4


@pytest.mark.parametrize("function", [tiled.attention, sdpa.attention])
@pytest.mark.parametrize("window", [None, 1, 30])
@pytest.mark.parametrize(("num_queries", "num_keys"), [(50, 120), (600, 600)])
def test_gradients_are_those_of_the_definition(function, num_queries, num_keys, window):
    arguments = [x.requires_grad_() for x in inputs(num_queries, num_keys)]
    grads = []
    for attention in (function, naive.attention):
        q, k, v = arguments
        out = attention(q, [(k[:45], v[:45]), (k[45:], v[45:])], 0.25, window, 2)
        grads.append(torch.autograd.grad((out.double() ** 3).sum(), arguments))
    for got, want in zip(*grads, strict=True):
        assert relative_rms(got, want) < 1e-4


@pytest.mark.parametrize("fuse", [True, False])
def test_memory_grows_with_length_not_with_its_square(monkeypatch, fuse):
    """A full score matrix would be 8192 x 8192 x 2 heads x 4 bytes = 537 MB."""
    monkeypatch.setattr(tiled, "can_fuse", lambda q: fuse)
    q, k, v = inputs(8192, 8192, num_heads=2, num_kv_heads=1)
    with torch.profiler.profile(profile_memory=True, acc_events=True) as profile:
        tiled.attention(q, [(k, v)], 0.25)
    peak, held = 0, 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert 0 < peak < 64 * 2**20


def test_more_queries_than_keys_is_refused():
    q, k, v = inputs(5, 4)
    with pytest.raises(ValueError, match="5 queries need as many keys, got 4"):
        kernels.attention(q, [(k, v)], 0.25)


@pytest.mark.parametrize("path", [tiled.attention, kernels.attention])
@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize(("num_queries", "num_keys"), [(1, 1), (1, 90), (40, 90), (600, 1700)])
@pytest.mark.parametrize(("window", "sinks"), [(1, 0), (1, 3), (17, 0), (64, 4), (1200, 30)])
def test_a_window_equals_the_definition(path, gradient, num_queries, num_keys, window, sinks):
    q, k, v = inputs(num_queries, num_keys)
    want = naive.attention(q, [(k, v)], 0.25, window, sinks)
    q.requires_grad_(gradient)
    got = path(q, [(k, v)], 0.25, window=window, sinks=sinks).detach()
    assert relative_rms(got, want) < 1e-5


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 80), min_size=1, max_size=6),
    st.integers(1, 90),
    st.integers(1, 200),
    st.integers(0, 40),
    st.booleans(),
)
def test_a_window_does_not_mind_where_keys_are_cut(cuts, num_queries, window, sinks, gradient):
    num_keys = sum(cuts)
    q, k, v = inputs(min(num_queries, num_keys), num_keys)
    want = naive.attention(q, [(k, v)], 0.3, window, sinks)
    segments = list(zip(k.split(cuts), v.split(cuts), strict=True))
    got = tiled.attention(q.requires_grad_(gradient), segments, 0.3, window, sinks).detach()
    assert relative_rms(got, want) < 1e-5


@pytest.mark.parametrize("gradient", [False, True])
def test_what_a_window_hides_cannot_be_seen(gradient):
    q, k, v = inputs(40, 100)
    q.requires_grad_(gradient)
    before = tiled.attention(q, [(k, v)], 0.25, 8, 2).detach()
    v[2:60] = 1e6
    after = tiled.attention(q, [(k, v)], 0.25, 8, 2).detach()
    assert torch.equal(after[7:], before[7:])  # query 7 stands at position 67
    assert (after[:7] - before[:7]).abs().amin(dim=(1, 2)).min() > 0


def test_gradients_through_a_window_are_those_of_the_definition():
    arguments = [x.requires_grad_() for x in inputs(50, 120)]
    grads = []
    for function in (tiled.attention, naive.attention):
        q, k, v = arguments
        out = function(q, [(k[:70], v[:70]), (k[70:], v[70:])], 0.25, 20, 3)
        grads.append(torch.autograd.grad((out.double() ** 3).sum(), arguments))
    for got, want in zip(*grads, strict=True):
        assert relative_rms(got, want) < 1e-4


def test_a_window_in_which_a_query_does_not_see_itself_is_refused():
    q, k, v = inputs(4, 4)
    with pytest.raises(ValueError, match="a window of 0 tokens"):
        kernels.attention(q, [(k, v)], 0.25, window=0)


@pytest.mark.parametrize("head_dim", [16, 64])
@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize("num_keys", [16, 70, 129, 500])
@pytest.mark.parametrize("with_llvm", [True, False])
def test_a_few_queries_get_the_bits_each_gets_alone(
    monkeypatch, with_llvm, num_keys, window, head_dim
):
    """Red: what is written depends on how many tokens were read at once."""
    if not with_llvm:
        monkeypatch.setattr(jit, "is_usable", lambda head_dim: False)
    q, k, v = inputs(16, num_keys, head_dim=head_dim)

    def attend(rows, seen):
        cuts = [slice(at, min(at + 100, seen)) for at in range(0, seen, 100)]
        segments = [(k[cut], v[cut]) for cut in cuts]
        return kernels.attention(rows, segments, 0.3, window=window, sinks=4 if window else 0)

    together = attend(q, num_keys)
    alone = [attend(row[None], num_keys - 15 + at) for at, row in enumerate(q)]
    assert torch.equal(together, torch.cat(alone))
    want = naive.attention(q, [(k, v)], 0.3, window, 4 if window else 0)
    assert relative_rms(together, want) < 1e-5
