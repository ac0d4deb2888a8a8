"""Red here means the attention of few queries sees the wrong keys, or depends on company."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from measure import relative_rms

from kernels.attention import Int8Tensor, few_queries, jit, naive

pytestmark = pytest.mark.skipif(not jit.is_usable(16), reason="no JIT for this processor")


def inputs(num_queries, num_keys, num_groups, per_group, head_dim, seed=0):
    """Keys and values as a cache has them, and NaN where they end."""
    generator = torch.Generator().manual_seed(seed)
    q = 3 * torch.randn(num_queries, num_groups * per_group, head_dim, generator=generator)
    pairs = torch.full((num_keys + 20, 2, num_groups, head_dim + 4), torch.nan)
    pairs[:num_keys, :, :, :head_dim] = torch.randn(
        num_keys, 2, num_groups, head_dim, generator=generator
    )
    keys, values = pairs[:num_keys, 0, :, :head_dim], pairs[:num_keys, 1, :, :head_dim]
    return q, keys, values


def attend(q, keys, values, cut=4096, scale=0.25):
    pieces = [(keys[at : at + cut], values[at : at + cut]) for at in range(0, len(keys), cut)]
    rows = q.view(len(q), keys.shape[1], -1, q.shape[-1])
    return jit.attention(rows, iter(pieces), len(keys), scale).view(q.shape)


@settings(max_examples=60, deadline=None)
@given(
    num_queries=st.integers(1, 16),
    earlier=st.integers(0, 700),
    num_groups=st.integers(1, 3),
    per_group=st.integers(1, 4),
    head_dim=st.sampled_from([16, 48, 64, 128]),
    seed=st.integers(0, 2**31),
)
def test_it_is_the_definition_and_a_query_has_the_bits_it_has_alone(
    num_queries, earlier, num_groups, per_group, head_dim, seed
):
    num_keys = earlier + num_queries
    q, keys, values = inputs(num_queries, num_keys, num_groups, per_group, head_dim, seed)
    got = attend(q, keys, values)
    assert relative_rms(got, naive.attention(q, [(keys, values)], 0.25, None, 0)) < 2e-6
    for at in range(num_queries):
        seen = earlier + at + 1
        assert torch.equal(attend(q[at : at + 1], keys[:seen], values[:seen])[0], got[at])


def coded(rows):
    """As a cache has them: head-major, with room for more, which is NaN or 99."""
    num_keys, num_groups, head_dim = rows.shape
    codes = torch.full((num_groups, num_keys + 9, head_dim), 99, dtype=torch.int8).transpose(0, 1)
    scales = torch.full((num_groups, num_keys + 9), torch.nan).transpose(0, 1)
    quantised = Int8Tensor.quantize(rows)
    codes[:num_keys], scales[:num_keys] = quantised.values, quantised.scales
    return Int8Tensor(codes, scales)[:num_keys]


@settings(max_examples=40, deadline=None)
@given(
    num_queries=st.integers(1, 16),
    earlier=st.integers(0, 700),
    num_groups=st.integers(1, 3),
    per_group=st.integers(1, 4),
    head_dim=st.sampled_from([16, 48, 64, 128]),
    cut=st.sampled_from([100, 256, 4096]),
    seed=st.integers(0, 2**31),
)
def test_int8_rows_are_read_as_the_numbers_they_stand_for(
    num_queries, earlier, num_groups, per_group, head_dim, cut, seed
):
    """Red: another key's scale is taken, or what was read in int8 is not what was kept."""
    num_keys = earlier + num_queries
    q, keys, values = inputs(num_queries, num_keys, num_groups, per_group, head_dim, seed)
    loudness = torch.linspace(-3, 3, num_keys).exp2()[:, None, None]
    pieces = [
        (coded(keys[at : at + cut]), coded((loudness * values)[at : at + cut]))
        for at in range(0, num_keys, cut)
    ]
    assert all(jit.supports(*piece) for piece in pieces)
    got = few_queries.attention(q, pieces, 0.25, None, 0)
    assert relative_rms(got, naive.attention(q, pieces, 0.25, None, 0)) < 2e-6
    dense = [(k.dequantize(), v.dequantize()) for k, v in pieces]
    assert torch.equal(got, few_queries.attention(q, dense, 0.25, None, 0))


def test_keys_of_which_only_the_values_are_int8_are_made_dense():
    q, keys, values = inputs(2, 300, 2, 2, 16)
    pieces = [(keys, coded(values))]
    assert not jit.supports(*pieces[0])
    got = few_queries.attention(q, pieces, 0.25, None, 0)
    assert relative_rms(got, naive.attention(q, pieces, 0.25, None, 0)) < 2e-6


@pytest.mark.parametrize("num_queries", [1, 5])
def test_a_long_history_is_put_together_from_tiles(monkeypatch, num_queries):
    """Red: tiles are weighed wrongly, or need room that grows with their number."""
    monkeypatch.setattr(jit, "MOST_KEYS", 512)
    q, keys, values = inputs(num_queries, 5000, 2, 2, 32)
    got = attend(q, keys, values)
    assert relative_rms(got, naive.attention(q, [(keys, values)], 0.25, None, 0)) < 2e-6
    assert torch.equal(attend(q, keys, values, cut=512), got)
    assert torch.equal(attend(q[-1:], keys, values)[0], got[-1])


def test_bits_do_not_depend_on_threads():
    q, keys, values = inputs(3, 3000, 2, 3, 64)
    alone = attend(q, keys, values)
    before = torch.get_num_threads()
    try:
        for num_threads in (2, 3, 5):
            torch.set_num_threads(num_threads)
            for _ in range(20):
                assert torch.equal(attend(q, keys, values), alone), num_threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("scale", [0.0, 1e-3, 30.0, 1e4])
def test_any_size_of_score_is_weighed(scale):
    """Red: large scores overflow, or those of all keys but one vanish where they should not."""
    q, keys, values = inputs(2, 600, 1, 2, 32)
    want = naive.attention(q, [(keys, values)], scale, None, 0)
    assert relative_rms(attend(q, keys, values, scale=scale), want) < 3e-6 * max(1.0, scale)


@pytest.mark.parametrize("x", [-87.5, -87.0, -80.0, -1.0, -0.3466, -0.3465, -1e-8, 0.0])
def test_a_weight_is_the_power_of_e_it_should_be(x):
    """One key scores 0 and is worth 0, the other x and is worth 1."""
    q, keys, values = torch.zeros(1, 1, 16), torch.zeros(2, 1, 16), torch.zeros(2, 1, 16)
    q[0, 0, 0], keys[1, 0, 0], values[1] = 1.0, x, 1.0
    got = attend(q, keys, values, scale=1.0)[0, 0, 0].double()
    if x < -87:
        assert got < 2e-38
    else:
        power = torch.tensor(x, dtype=torch.float64).float().double().exp()
        assert (got / (power / (1 + power)) - 1).abs() < 4e-7


def test_what_is_not_a_number_is_not_hidden():
    q, keys, values = inputs(2, 300, 1, 1, 16)
    keys[299, 0, 3] = torch.nan
    got = attend(q, keys, values)
    assert got[1].isnan().all() and not got[0].isnan().any()


def test_a_wrong_result_is_found_out_before_it_is_used(monkeypatch):
    right = jit.attention

    def sees_too_much(rows, pieces, num_keys, scale):
        return right(rows, pieces, num_keys + 1, scale)

    monkeypatch.setattr(jit, "attention", sees_too_much)
    assert not jit.is_usable.__wrapped__(64)


def test_heads_of_other_sizes_are_left_to_pytorch(monkeypatch):
    monkeypatch.setattr(jit, "attention", None)
    q, keys, values = inputs(2, 100, 2, 2, 24)
    want = naive.attention(q, [(keys, values)], 0.3, None, 0)
    assert relative_rms(few_queries.attention(q, [(keys, values)], 0.3, None, 0), want) < 1e-5
