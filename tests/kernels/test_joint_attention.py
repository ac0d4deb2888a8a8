"""Red here means selected blocks, sinks and window are no longer one softmax: wrong answers where
the question selects."""

import pytest
import torch
from measure import relative_rms

import kernels
from kernels import Int8Tensor
from kernels.attention import few_queries, jit, naive, tiled


def inputs(num_queries, num_keys=(4, 150, 400), num_kv_heads=3, per_group=2, head_dim=64, seed=0):
    """Parts of 4 sinks, a chosen block and a window, each with queries of its own."""
    generator = torch.Generator().manual_seed(seed)

    def random(count, heads):
        return torch.randn(count, heads, head_dim, generator=generator)

    return [
        (
            2 * random(num_queries, num_kv_heads * per_group),
            [(random(count, num_kv_heads), random(count, num_kv_heads))],
        )
        for count in num_keys
    ]


def by_products(parts, scale, window=None):
    """The path of devices without the fused kernel."""
    parts = [(q.requires_grad_(), segments) for q, segments in parts]
    return tiled.joint_attention(parts, scale, window).detach()


@pytest.mark.parametrize("path", [tiled.joint_attention, by_products])
@pytest.mark.parametrize("num_queries", [1, 7, 16, 17, 300])
@pytest.mark.parametrize("window", [None, 1, 100, 1000])
def test_equals_the_definition(path, num_queries, window):
    parts = inputs(num_queries)
    want = naive.joint_attention(parts, 0.125, window)
    assert relative_rms(path(parts, 0.125, window), want) < 1e-5


def test_without_the_jit_it_is_the_same(monkeypatch):
    monkeypatch.setattr(jit, "is_usable", lambda _: False)
    parts = inputs(5)
    want = naive.joint_attention(parts, 0.125, 64)
    assert relative_rms(few_queries.joint_attention(parts, 0.125, 64), want) < 1e-5


def test_alike_queries_make_it_plain_attention():
    (q, _), (_, middle), (_, last) = inputs(40)
    want = kernels.attention(q, [*middle, *last], 0.125)
    assert relative_rms(kernels.joint_attention([(q, middle), (q, last)], 0.125), want) < 1e-5


@pytest.mark.parametrize("cut", [1, 63, 399])
def test_where_keys_are_cut_does_not_matter(cut):
    *whole, (q, [(keys, values)]) = inputs(20)
    pieces = [(keys[:cut], values[:cut]), (keys[cut:], values[cut:])]
    want = naive.joint_attention([*whole, (q, [(keys, values)])], 0.125, 90)
    assert (
        relative_rms(kernels.joint_attention([*whole, (q, pieces)], 0.125, window=90), want) < 1e-5
    )


@pytest.mark.parametrize("num_queries", [6, 40])
def test_int8_keys_are_those_they_stand_for(num_queries):
    parts = [
        (q, [(Int8Tensor.quantize(k), Int8Tensor.quantize(v)) for k, v in segments])
        for q, segments in inputs(num_queries)
    ]
    dense = [(q, [(k.dequantize(), v.dequantize()) for k, v in part]) for q, part in parts]
    want = naive.joint_attention(dense, 0.125, 50)
    assert relative_rms(kernels.joint_attention(parts, 0.125, window=50), want) < 1e-5


@pytest.mark.parametrize("window", [None, 70])
def test_a_query_has_the_bits_it_has_alone(window):
    """Red: drafts leave another context than decoding does."""
    parts = inputs(9)
    together = kernels.joint_attention(parts, 0.125, window=window)
    for at in range(9):
        alone = [(q[at : at + 1], segments) for q, segments in parts]
        q, [(keys, values)] = alone[-1]
        alone[-1] = (q, [(keys[: 400 - 8 + at], values[: 400 - 8 + at])])
        assert torch.equal(kernels.joint_attention(alone, 0.125, window=window)[0], together[at])


def test_more_queries_than_keys_are_refused():
    with pytest.raises(ValueError, match="need as many keys"):
        kernels.joint_attention(inputs(30, (4, 20)), 0.125)
