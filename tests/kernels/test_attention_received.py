"""Red here means that an answer is said to rest on text it did not look at."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from measure import relative_rms

import kernels
from kernels import Int8Tensor
from kernels.attention import naive, received


def inputs(num_queries, num_keys, num_heads=6, num_kv_heads=2, head_dim=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    q = 2 * torch.randn(num_queries, num_heads, head_dim, generator=generator)
    k = 2 * torch.randn(num_keys, num_kv_heads, head_dim, generator=generator)
    return q, k, torch.full_like(k, torch.nan)  # values must not be read


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 80), min_size=1, max_size=5),
    st.integers(1, 60),
    st.sampled_from([1, 2, 3, 6]),
    st.integers(0, 99),
)
def test_equals_the_definition_wherever_the_keys_are_cut(cuts, num_queries, num_kv_heads, seed):
    num_keys = sum(cuts)
    num_queries = min(num_queries, num_keys)
    q, k, v = inputs(num_queries, num_keys, num_kv_heads=num_kv_heads, seed=seed)
    got = received.attention_received(q, list(zip(k.split(cuts), v.split(cuts), strict=True)), 0.3)
    assert relative_rms(got, naive.attention_received(q, [(k, v)], 0.3)) < 1e-5
    assert float(got.sum()) == pytest.approx(num_queries * q.shape[1], rel=1e-4)


def test_equals_the_definition_over_several_tiles_and_large_scores():
    q, k, v = inputs(9, 2 * received.KEY_TILE + 5)
    got = received.attention_received(50 * q, [(k, v)], 1.0)
    assert relative_rms(got, naive.attention_received(50 * q, [(k, v)], 1.0)) < 1e-4


def test_is_what_attention_weighs_the_values_with():
    """Of value rows that are one where the key is j and zero elsewhere, it gives weight j."""
    q, k, _ = inputs(12, 16, num_kv_heads=6)
    ones = torch.eye(16)[:, None].expand(16, 6, 16).contiguous()
    weights = kernels.attention(q, [(k, ones)], 0.25)  # [T, H, S]
    got = kernels.attention_received(q, [(k, ones)], 0.25)
    assert relative_rms(got, weights.sum(dim=(0, 1))) < 1e-5


def test_keys_in_int8_are_read():
    q, k, v = inputs(5, 70)
    rows = Int8Tensor.quantize(k)
    got = kernels.attention_received(q, [(rows, v)], 0.25)
    assert relative_rms(got, naive.attention_received(q, [(rows.dequantize(), v)], 0.25)) < 1e-5
