"""Red here means tokens reach the wrong experts or with the wrong weight."""

import pytest
import torch
from measure import relative_rms

import kernels
from kernels.experts import grouped, naive
from kernels.linear import dense, upcast_blocks


def inputs(num_tokens, num_experts=8, chosen=2, width=12, inner=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_tokens, width, generator=generator)
    logits = torch.randn(num_tokens, num_experts, generator=generator)
    weights, ids = logits.softmax(-1).topk(chosen)
    gate_up = torch.randn(num_experts, 2 * inner, width, generator=generator)
    down = torch.randn(num_experts, width, inner, generator=generator)
    return x, ids, weights, gate_up, down


@pytest.mark.parametrize("num_tokens", [1, 2, 17, 129])
@pytest.mark.parametrize("chosen", [1, 2, 8])
def test_grouped_equals_the_definition(num_tokens, chosen):
    arguments = inputs(num_tokens, chosen=chosen)
    assert relative_rms(grouped.experts(*arguments), naive.experts(*arguments)) < 1e-5


def test_an_expert_nobody_chose_is_never_touched():
    x, ids, weights, gate_up, down = inputs(30, num_experts=8)
    unused = 7
    ids = torch.where(ids == unused, (ids + 1) % 7, ids)
    gate_up[unused] = torch.nan
    out = grouped.experts(x, ids, weights, gate_up, down)
    assert relative_rms(out, naive.experts(x, ids, weights, gate_up, down)) < 1e-5


def test_runs_are_equal_bit_by_bit():
    arguments = inputs(200)
    assert torch.equal(grouped.experts(*arguments), grouped.experts(*arguments))


class Fetched(kernels.ExpertStack):
    """Hands out experts, and notes what it was told and asked for."""

    def __init__(self, stack):
        self.stack, self.hinted, self.fetched = stack, [], []

    def hint(self, experts):
        self.hinted = list(experts)

    def __getitem__(self, expert):
        self.fetched.append(expert)
        return self.stack[expert]


def test_a_stack_that_is_fetched_is_asked_once_for_each_expert_in_the_order_hinted():
    x, ids, weights, gate_up, down = inputs(3, num_experts=64)
    stacks = Fetched(gate_up), Fetched(down)
    out = kernels.experts(x, ids, weights, *stacks)
    assert torch.equal(out, grouped.experts(x, ids, weights, gate_up, down))
    chosen = sorted(set(ids.flatten().tolist()))
    assert stacks[0].hinted == stacks[0].fetched == stacks[1].fetched == chosen


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_experts_kept_narrower_are_multiplied_as_if_they_were_widened(dtype):
    x, ids, weights, gate_up, down = inputs(40)
    gate_up, down = gate_up.to(dtype), down.to(dtype)
    out = kernels.experts(x, ids, weights, Fetched(gate_up), Fetched(down))
    assert torch.equal(out, grouped.experts(x, ids, weights, gate_up.float(), down.float()))


@pytest.mark.parametrize("num_rows", [1, 2, 7, 64])
@pytest.mark.parametrize("shape", [(3008, 700), (3001, 700), (1024, 6144), (777, 9216), (3, 5)])
def test_a_narrow_product_in_blocks_has_the_bits_of_the_whole_one(num_rows, shape):
    """Red here means a streamed model's logits are not the resident one's on this processor."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, generator=generator).bfloat16()
    x = torch.randn(num_rows, shape[1], generator=generator)
    wanted = dense.linear(x, weight.float())
    assert torch.equal(upcast_blocks.linear(x, weight), wanted)
    assert wanted.abs().sum() > 0
