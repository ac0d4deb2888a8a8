"""Red here means that queries read other blocks than they chose, or choose others."""

import pytest
import torch

import kernels
from kernels import BlockRule, Int8Tensor
from kernels.attention import naive

RULE = BlockRule(stride=4, num_blocks=5, num_near=2, num_first=1)
HEADS, GROUPS, WIDTH = 6, 2, 16


def case(num_keys, num_queries, seed=0):
    """Queries, keys and values, and the sums of every 4 keys in two pieces."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(num_queries, HEADS, WIDTH, generator=generator)
    keys, values = torch.randn(2, num_keys, GROUPS, WIDTH, generator=generator)
    sums = keys[: num_keys // 4 * 4].view(-1, 4, GROUPS, WIDTH).sum(dim=1).transpose(0, 1)
    return q, [(keys[:37], values[:37]), (keys[37:], values[37:])], [sums[:, :9], sums[:, 9:]]


@pytest.mark.parametrize(("num_keys", "num_queries"), [(211, 1), (212, 3), (300, 40), (64, 33)])
def test_the_choice_is_its_definition(num_keys, num_queries):
    q, _, sums = case(num_keys, num_queries)
    got = kernels.choose_blocks(q, sums, num_keys, 0.3, RULE)
    want = kernels.choose_blocks(q, sums, num_keys, 0.3, RULE, implementation="naive")
    assert torch.equal(got, want)
    own = torch.arange(num_keys - num_queries, num_keys) // RULE.block_tokens
    assert torch.equal(got.sum(-1), (own + 1).clamp(max=5)[:, None].expand(-1, GROUPS))
    assert got[:, :, 0].all()


def test_of_equal_blocks_the_lower_is_chosen():
    """Neighbours share a mean: where it is the best of both they are equal, always."""
    q, _, sums = case(320, 1)
    sums = [torch.cat(sums, dim=1).zero_()]
    sums[0][:, 31:33] = 10 * q.view(GROUPS, -1, WIDTH).mean(dim=1)[:, None]  # across 7 and 8
    for form in (None, "naive"):
        chosen = kernels.choose_blocks(q, sums, 320, 0.3, RULE, implementation=form)
        assert chosen[0, 0].nonzero().flatten().tolist() == [0, 7, 8, 18, 19]
    fewer = RULE._replace(num_blocks=4)
    for form in (None, "naive"):
        chosen = kernels.choose_blocks(q, sums, 320, 0.3, fewer, implementation=form)
        assert chosen[0, 0].nonzero().flatten().tolist() == [0, 7, 18, 19]


def test_a_score_too_large_for_float32_does_not_push_out_what_is_always_read():
    q, _, sums = case(320, 1)
    sums = [torch.cat(sums, dim=1).zero_()]
    sums[0][:, 21] = 4000 * q.view(GROUPS, -1, WIDTH)[:, 0]
    chosen = kernels.choose_blocks(q, sums, 320, 5.0, RULE._replace(num_blocks=3))
    assert chosen[0, 0].nonzero().flatten().tolist() == [0, 18, 19]


@pytest.mark.parametrize("num_queries", [1, 5, 16, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, "int8"])
def test_attention_over_chosen_blocks_is_its_definition(num_queries, dtype):
    q, segments, sums = case(300, num_queries)
    chosen = kernels.choose_blocks(q, sums, 300, 0.3, RULE)
    if dtype == "int8":
        segments = [tuple(map(Int8Tensor.quantize, pair)) for pair in segments]
    elif dtype == torch.bfloat16:
        q, segments = q.to(dtype), [(k.to(dtype), v.to(dtype)) for k, v in segments]
    got = kernels.block_sparse_attention(q, segments, chosen, RULE.block_tokens, 0.3)
    want = naive.block_sparse_attention(q, segments, chosen, RULE.block_tokens, 0.3)
    assert got.dtype == q.dtype
    assert (got.double() - want).abs().max() < (2e-2 if dtype == torch.bfloat16 else 1e-5)


def test_groups_may_read_unequally_many_and_each_query_gets_what_it_gets_alone():
    q, segments, _ = case(300, 5)
    chosen = torch.rand(5, GROUPS, 19, generator=torch.Generator().manual_seed(1)) > 0.6
    chosen[..., -2:] = True
    got = kernels.block_sparse_attention(q, segments, chosen, 16, 0.3)
    want = naive.block_sparse_attention(q, segments, chosen, 16, 0.3)
    assert (got - want).abs().max() < 1e-5
    keys, values = (torch.cat(x) for x in zip(*segments, strict=True))
    for at in range(5):
        seen = [(keys[: 296 + at], values[: 296 + at])]
        alone = kernels.block_sparse_attention(q[at : at + 1], seen, chosen[at : at + 1], 16, 0.3)
        assert torch.equal(alone[0], got[at])
