"""Red here means quantised weights no longer are the weights they were made from."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from measure import relative_rms

from kernels.quantized import GROUPS, Int4Weight, Int8Weight

MAGNITUDES = st.floats(-6, 4).map(lambda exponent: 10.0**exponent)


def random_weight(shape, seed, magnitude=1.0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    return magnitude * (torch.randn(*shape, generator=generator) + shift)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), MAGNITUDES, st.floats(-3, 3), st.integers(1, 70), st.booleans())
def test_int8_is_off_by_at_most_half_a_scale(seed, magnitude, shift, width, stacked):
    weight = random_weight((2, 3, width) if stacked else (3, width), seed, magnitude, shift)
    quantized = Int8Weight.quantize(weight)
    assert quantized.shape == weight.shape
    half = weight.abs().amax(-1, keepdim=True).double() / 254
    off = (quantized.dequantize(torch.float64) - weight.double()).abs()
    assert (off <= half * (1 + 1e-4)).all()
    assert (quantized.codes.abs().amax(-1) == 127).all()  # the whole range is used


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    MAGNITUDES,
    st.floats(-3, 3),
    st.sampled_from(GROUPS),
    st.integers(1, 3),
)
def test_int4_is_off_by_at_most_half_a_scale_of_its_own_group(
    seed, magnitude, shift, group, num_groups
):
    weight = random_weight((2, 3, group * num_groups), seed, magnitude, shift)
    weight[..., :group] *= 100 if magnitude < 100 else 1  # a loud group must not drown the others
    quantized = Int4Weight.quantize(weight, group)
    assert (quantized.shape, quantized.group) == (weight.shape, group)
    grouped = weight.unflatten(-1, (-1, group)).double()
    step = (grouped.amax(-1) - grouped.amin(-1)) / 15
    rounding = 2e-3 * step + 2e-4 * grouped.abs().amax(-1) + 1e-7  # of scale and offset
    off = (quantized.dequantize(torch.float64) - weight.double()).abs().unflatten(-1, (-1, group))
    assert (off.amax(-1) <= step / 2 + rounding).all()


@pytest.mark.parametrize("group", GROUPS)
def test_a_byte_holds_the_columns_it_is_documented_to_hold(group):
    codes = torch.arange(2 * group) % 16
    weight = codes.float() * 0.5 - 2.0  # every group has both ends of its range
    quantized = Int4Weight.quantize(weight[None], group)
    low, high = quantized.packed[0] & 15, quantized.packed[0] >> 4
    for j in range(group):
        byte, half = (j // (group // 2)) * (group // 2), j % (group // 2)
        assert low[j] == codes[2 * byte + half]
        assert high[j] == codes[2 * byte + half + group // 2]
    assert torch.equal(quantized.dequantize(), weight[None])


def test_zeros_stay_zeros_and_constants_stay_close():
    weight = torch.zeros(2, 64)
    weight[1] = 0.3
    assert torch.equal(Int8Weight.quantize(weight).dequantize()[0], weight[0])
    restored = Int4Weight.quantize(weight, 32).dequantize()
    assert torch.equal(restored[0], weight[0])
    assert (restored[1] - 0.3).abs().max() < 3e-5


@pytest.mark.parametrize("group", GROUPS)
def test_search_lowers_the_error_where_there_are_outliers(group):
    weight = random_weight((64, 512), 1)
    weight[torch.rand(weight.shape) < 0.01] *= 4
    plain, searched = (Int4Weight.quantize(weight, group, search=on) for on in (False, True))
    errors = [relative_rms(q.dequantize(), weight) for q in (plain, searched)]
    assert 0.02 < errors[1] < errors[0] < 0.25


def test_bytes_per_weight_are_those_promised():
    weight = random_weight((4, 8, 256), 0)
    assert Int8Weight.quantize(weight).num_bytes == weight.numel() + 4 * 4 * 8
    for group in GROUPS:
        assert Int4Weight.quantize(weight, group).num_bytes * 8 / weight.numel() == 4 + 32 / group


def test_one_of_a_stack_is_the_one_asked_for():
    weight = random_weight((3, 4, 64), 0)
    for quantized in (Int8Weight.quantize(weight), Int4Weight.quantize(weight)):
        assert torch.equal(quantized[2].dequantize(), quantized.dequantize()[2])


def test_what_int4_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="groups of 48"):
        Int4Weight.quantize(torch.ones(2, 96), 48)
    with pytest.raises(ValueError, match="96 columns do not divide into groups of 64"):
        Int4Weight.quantize(torch.ones(2, 96), 64)
    for bad in (1e6, torch.nan):
        with pytest.raises(ValueError, match="not finite or beyond float16"):
            Int4Weight.quantize(torch.full((2, 64), bad))
