"""Red here means a GPU sends tokens to the wrong experts, or reads weights it should not."""

import pytest
import torch
from measure import relative_rms
from torch._subclasses.fake_tensor import FakeTensorMode

from kernels.experts import grouped, naive, triton
from kernels.quantized import Int4Weight, Int8Weight
from tests.kernels.interpreted import DEVICE, mutated
from tests.kernels.interpreted import poisoned as poisoned

STACKS = {
    "plain": lambda stack: stack,
    "int8": Int8Weight.quantize,
    "int4": lambda stack: Int4Weight.quantize(stack, 32),
}
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}


def inputs(num_tokens, chosen=2, num_experts=6, kind="plain", dtype=torch.float32, odd=True):
    generator = torch.Generator().manual_seed(num_tokens)

    def random(*shape):
        return torch.randn(*shape, generator=generator).to(DEVICE)

    width, inner = (37, 19) if odd and kind != "int4" else (64, 32)
    weights, ids = random(num_tokens, num_experts).softmax(-1).topk(chosen)
    loudness = torch.arange(1, num_experts + 1, device=ids.device)[:, None, None]
    gate_up = random(num_experts, 2 * inner, width) * loudness / 6
    down = random(num_experts, width, inner) * loudness
    if kind == "plain":
        gate_up, down = gate_up.to(dtype), down.to(dtype)
    return random(num_tokens, width).to(dtype), ids, weights, *map(STACKS[kind], (gate_up, down))


def distance(function, arguments):
    return relative_rms(function(*arguments), naive.experts(*arguments))


@pytest.mark.parametrize("kind", STACKS)
@pytest.mark.parametrize(
    ("num_tokens", "chosen", "dtype"),
    [
        (1, 1, torch.float32),
        (1, 4, torch.bfloat16),
        (2, 2, torch.float32),
        (7, 1, torch.float16),
        (9, 1, torch.float32),
        (33, 2, torch.float32),
        (12, 4, torch.float32),
        (33, 4, torch.bfloat16),
        (60, 3, torch.float16),
    ],
)
def test_equals_the_definition(poisoned, kind, num_tokens, chosen, dtype):
    arguments = inputs(num_tokens, chosen, kind=kind, dtype=dtype)
    assert distance(triton.experts, arguments) < TOLERANCE[dtype]


@pytest.mark.parametrize("kind", STACKS)
@pytest.mark.parametrize("num_tokens", [1, 40])
def test_quantised_stacks_in_torch_equal_the_definition(kind, num_tokens):
    assert distance(grouped.experts, inputs(num_tokens, kind=kind)) < 2e-6


@pytest.mark.parametrize("num_tokens", [3, 40])
def test_all_tokens_to_one_expert_touch_no_other(poisoned, num_tokens):
    x, ids, weights, gate_up, down = inputs(num_tokens, chosen=1)
    ids = torch.full_like(ids, 4)
    gate_up[[0, 1, 2, 3, 5]] = torch.nan
    down[[0, 1, 2, 3, 5]] = torch.nan
    assert distance(triton.experts, (x, ids, weights, gate_up, down)) < 2e-6


@pytest.mark.parametrize("num_tokens", [2, 9])
def test_the_order_of_a_tokens_experts_does_not_change_a_bit(num_tokens):
    x, ids, weights, *stacks = inputs(num_tokens, chosen=3)
    want = triton.experts(x, ids, weights, *stacks)
    assert torch.equal(triton.experts(x, ids, weights, *stacks), want)
    assert torch.equal(triton.experts(x, ids.flip(-1), weights.flip(-1), *stacks), want)


@pytest.mark.parametrize(
    ("num_tokens", "chosen", "num_experts", "num_rows"),
    [(1, 1, 1, 16), (9, 4, 5, 16), (33, 2, 32, 16), (300, 2, 8, 16), (300, 2, 3, 128)],
)
def test_tiles_hold_every_slot_once_and_only_its_own_expert(
    num_tokens, chosen, num_experts, num_rows
):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_tokens, num_experts, generator=generator)
    for ids in (logits.topk(chosen).indices, logits.new_ones(num_tokens, 1).long() % num_experts):
        tiles = triton.cut_into_tiles(ids, num_experts, num_rows)
        seen = []
        for expert, first, end in zip(tiles.experts, tiles.firsts, tiles.ends, strict=True):
            slots = tiles.order[first : min(first + num_rows, end)].tolist() if end else []
            assert all(ids.flatten()[slot] == expert for slot in slots)
            seen += slots
        assert sorted(seen) == list(range(ids.numel()))


def test_the_host_reads_no_routing_back():
    """What needs a value of a tensor, and so would wait for the GPU, fails on a fake one."""
    with FakeTensorMode():
        few, many = (triton.cut_into_tiles(torch.zeros(t, 2).long(), 8, 16) for t in (9, 900))
    assert [len(tiles.experts) for tiles in (few, many)] == [8, 120]  # of 9 and 900 tokens


@pytest.mark.parametrize("num_tokens", [2, 12])
def test_experts_on_both_sides_of_2_31_elements(num_tokens):
    """Linux gives memory to the pages that are written: 3 GB here take a few hundred KB."""
    num_experts, width = 2**19 + 2, 64
    _, _, weights, small_gate_up, small_down = inputs(num_tokens, 2, kind="int8", odd=False)

    def spread(small):
        codes = torch.empty(num_experts, *small.shape[1:], dtype=torch.int8)
        stack = Int8Weight(codes, torch.empty(num_experts, small.shape[1]))
        for index, expert in enumerate(chosen):
            stack.codes[expert], stack.scales[expert] = small.codes[index], small.scales[index]
        return stack.to(DEVICE)

    chosen = (3, 2**19 - 1, 2**19, num_experts - 1)
    generator = torch.Generator().manual_seed(0)
    picks = torch.randn(num_tokens, len(chosen), generator=generator).topk(2).indices
    ids = torch.tensor(chosen)[picks].to(DEVICE)
    x = torch.randn(num_tokens, width, generator=generator).to(DEVICE)
    arguments = (x, ids, weights, spread(small_gate_up), spread(small_down))
    assert arguments[3].codes.numel() > 2**31
    assert distance(triton.experts, arguments) < 2e-6


MUTANTS = {
    "another expert for the last tile": (
        "Tiles(order, of_tile,",
        "Tiles(order, of_tile.clamp(max=4),",
    ),
    "zeros": ("gate * tl.sigmoid(gate) * up", "gate * tl.sigmoid(gate) * up * 0"),
    "gate and up exchanged": ("gate, up = tl.split", "up, gate = tl.split"),
    "one slot's weight for all": (
        "expert_weights_ptr + slot",
        "expert_weights_ptr + slot // 4 * 4",
    ),
    "rows of a tile left out": ("rows < end", "rows < end - 1"),
    "another token's row": ("// num_chosen", "// (num_chosen + 1)"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_wrong_kernel_is_caught(tmp_path, poisoned, mutant):
    wrong = mutated(triton, tmp_path, *MUTANTS[mutant])
    arguments = inputs(12, chosen=4)  # the right kernel is right about them: see above
    assert not distance(wrong.experts, arguments) < 0.01
