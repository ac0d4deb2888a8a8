"""Red here means every product is wrong, or packed weights differ from plain ones."""

import pytest
import torch
from measure import relative_rms

import kernels
from kernels.linear import dense, fp16_weight, naive


@pytest.mark.parametrize("num_rows", [1, 2, 17, 512])
@pytest.mark.parametrize(("width", "out"), [(16, 8), (33, 7), (576, 960)])
def test_plain_and_packed_weights_give_the_product(num_rows, width, out):
    x, weight = torch.randn(num_rows, width), torch.randn(out, width)
    want = naive.linear(x, weight)
    assert relative_rms(kernels.linear(x, weight), want) < 1e-5
    assert relative_rms(kernels.linear(x, kernels.prepack(weight)), want) < 1e-5


def test_rows_may_be_a_view_of_something_wider():
    x, weight = torch.randn(9, 40), torch.randn(5, 20)
    want = naive.linear(x[:, :20], weight)
    assert relative_rms(kernels.linear(x[:, :20], kernels.prepack(weight)), want) < 1e-5


def test_what_cannot_be_packed_is_left_as_it_is():
    for weight in (torch.randn(3, 4).bfloat16(), torch.randn(2, 3, 4), torch.randn(3, 4).double()):
        assert kernels.prepack(weight) is weight


@pytest.mark.skipif(not fp16_weight.is_usable(), reason="no small-M matmul here")
@pytest.mark.parametrize(("width", "out"), [(16, 8), (33, 7), (576, 960), (1536, 576)])
def test_float16_weights_round_few_rows_only_and_each_as_if_alone(width, out):
    """Red: what is written depends on how many tokens were read at once, or prefill is rounded."""
    x, weight = torch.randn(40, width), torch.randn(out, width)
    packed = kernels.prepack(weight, small_m=True)
    assert isinstance(packed, kernels.PackedWeight) and packed.shape == weight.shape
    want = naive.linear(x, weight)
    assert relative_rms(kernels.linear(x, packed), want) < 1e-5
    few = kernels.linear(x[:16], packed)
    assert 1e-5 < relative_rms(few, want[:16]) < 5e-4
    assert relative_rms(few, naive.linear(x[:16], weight.half())) < 1e-5
    assert torch.equal(few, torch.cat([kernels.linear(row[None], packed) for row in x[:16]]))


@pytest.mark.parametrize("scale", [1e6, 1e-6])
def test_weights_float16_cannot_hold_stay_float32(scale):
    """Red: products are infinite, or zero."""
    x, weight = torch.randn(1, 64), scale * torch.randn(32, 64)
    packed = kernels.prepack(weight, small_m=True)
    assert not isinstance(packed, kernels.PackedWeight)
    assert relative_rms(kernels.linear(x, packed), naive.linear(x, weight)) < 1e-5


def test_few_rows_of_plain_weights_go_one_by_one():
    x, weight = torch.randn(9, 72), torch.randn(50, 72)
    together = kernels.linear(x, weight)
    assert torch.equal(together, torch.cat([kernels.linear(row[None], weight) for row in x]))


@pytest.mark.parametrize("shape", [(1024, 512), (200, 700), (777, 1536)])
def test_rows_keep_their_bits_in_a_taller_product_and_where_the_weight_is_cut(shape):
    """Red: experts whose rows are rounded up, or who are read in blocks, write something else."""
    x, weight = torch.randn(100, shape[1]), torch.randn(shape)
    whole = dense.large_m(x, weight)
    assert relative_rms(whole, naive.linear(x, weight)) < 1e-5
    assert torch.equal(dense.large_m(x[:37].clone(), weight), whole[:37])
    halves = [dense.large_m(x, part) for part in (weight[:64], weight[64:])]
    assert torch.equal(torch.cat(halves, dim=1), whole)


def test_gradients_pass_through_many_rows():
    x, weight = torch.randn(40, 24), torch.randn(16, 24, requires_grad=True)
    kernels.linear(x, weight).sum().backward()
    assert weight.grad is not None
    assert relative_rms(weight.grad, x.sum(dim=0).expand(16, 24)) < 1e-5
