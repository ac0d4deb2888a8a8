"""Red here means every product is wrong, or packed weights differ from plain ones."""

import pytest
import torch
from measure import relative_rms

import kernels
from kernels.linear import naive


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
