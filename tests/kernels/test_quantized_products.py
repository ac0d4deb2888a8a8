"""Red here means products with int8 or int4 weights are not products with those weights."""

from functools import partial

import pytest
import torch
from measure import relative_rms

import kernels
from kernels.linear import dequantize_blocks, jit, naive, triton
from kernels.quantized import GROUPS, Int4Weight, Int8Weight
from tests.kernels.interpreted import DEVICE, mutated
from tests.kernels.interpreted import poisoned as poisoned

QUANTIZE = {
    "int8": Int8Weight.quantize,
    **{f"int4/{group}": partial(Int4Weight.quantize, group=group) for group in GROUPS},
}
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 4e-3, torch.float16: 6e-4}


def inputs(num_rows, num_columns=384, num_out=37, dtype=torch.float32, kind="int8"):
    generator = torch.Generator().manual_seed(num_rows)
    x = torch.randn(num_rows, num_columns, generator=generator)
    # Rows and groups of very different size: another's scale must not pass for one's own.
    weight = torch.randn(num_out, num_columns, generator=generator)
    loudness = torch.rand(num_out, num_columns // 32 + 1, generator=generator).exp2() ** 3
    weight *= loudness.repeat_interleave(32, dim=1)[:, :num_columns]
    return x.to(DEVICE, dtype), QUANTIZE[kind](weight).to(DEVICE)


def distance(function, x, weight):
    return relative_rms(function(x, weight), naive.linear(x, weight))


@pytest.mark.parametrize("kind", QUANTIZE)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("num_rows", [1, 2, 33])
def test_blocks_equal_the_definition(monkeypatch, kind, dtype, num_rows):
    monkeypatch.setattr(
        dequantize_blocks, "_BLOCK_ELEMENTS", 384 * 10
    )  # the last block is not full
    x, weight = inputs(num_rows, dtype=dtype, kind=kind)
    assert distance(dequantize_blocks.linear, x, weight) < TOLERANCE[dtype]


@pytest.mark.parametrize("kind", QUANTIZE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_rows", [1, 2, 7, 33])
def test_triton_equals_the_definition(poisoned, kind, dtype, num_rows):
    x, weight = inputs(num_rows, dtype=dtype, kind=kind)
    assert distance(triton.linear, x, weight) < TOLERANCE[dtype]


@pytest.mark.parametrize("kind", ["int8", "int4/128"])
def test_one_row_is_summed_over_splits_in_order(poisoned, kind):
    x, weight = inputs(1, num_columns=1152, num_out=13, dtype=torch.float16, kind=kind)
    assert distance(triton.linear, x, weight) < TOLERANCE[torch.float16]
    assert torch.equal(triton.linear(x, weight), triton.linear(x, weight))


def test_several_tiles_in_both_directions(poisoned):
    x, weight = inputs(150, num_columns=96, num_out=290, dtype=torch.float16, kind="int4/32")
    assert distance(triton.linear, x, weight) < TOLERANCE[torch.float16]


def test_columns_that_fill_no_tile(poisoned):
    for num_rows in (1, 3, 20):
        x, _ = inputs(num_rows, num_columns=33)
        weight = Int8Weight.quantize(torch.randn(5, 33)).to(DEVICE)
        assert distance(triton.linear, x, weight) < TOLERANCE[torch.float32]


MUTANTS = {
    "zeros": ("    return sums", "    return sums * 0"),
    "the next group's scale": ("scale_ptr + of_group", "scale_ptr + of_group + 1"),
    "the next row's scale": ("scale_ptr + weight_rows", "scale_ptr + weight_rows + 1"),
    "halves of a group exchanged": ("(packed & 15)", "(packed >> 4)"),
    "no offset": ("offsets[:, None]", "0 * offsets[:, None]"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_wrong_kernel_is_caught(tmp_path, mutant):
    wrong = mutated(triton, tmp_path, *MUTANTS[mutant])
    kind = "int8" if "row" in mutant else "int4/64"
    x, weight = inputs(2, num_columns=128, kind=kind)
    assert distance(triton.linear, x, weight) < 2e-6
    assert not distance(wrong.linear, x, weight) < 0.01


def test_the_public_door_takes_quantised_weights():
    x, weight = inputs(3)
    x, weight = x.cpu(), weight.to("cpu")
    assert torch.equal(kernels.linear(x, weight), jit.linear(x, weight))
    assert torch.equal(kernels.linear(x.double(), weight), naive.linear(x, weight))
    with pytest.raises(ValueError, match=r"quantised weights: no .* cpu torch.int32.*blocks"):
        kernels.linear(x.int(), weight)


def test_memory_stays_at_one_block():
    """The weight in float32 would be 32 MB."""
    codes = torch.ones(4096, 2048, dtype=torch.int8)
    x, weight = torch.randn(4, 2048), Int8Weight(codes, torch.ones(4096))
    with torch.profiler.profile(profile_memory=True, acc_events=True) as profile:
        dequantize_blocks.linear(x, weight)
    peak, held = 0, 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert 0 < peak < 10 * 2**20
