"""Red here means tokens reach the wrong experts or with the wrong weight."""

import pytest
import torch
from measure import relative_rms

from kernels.experts import grouped, naive


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
