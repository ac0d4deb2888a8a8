"""Red here means a kernel is picked that does not serve the tensors, or nobody can say why."""

import pytest
import torch

import kernels
from kernels.registry import Registry


def test_refuses_loudly_and_lists_what_there_is():
    registry = Registry("op")
    registry.add("a", lambda: None, devices=("cpu",), dtypes=(torch.float32,))
    with pytest.raises(
        ValueError, match=r"op: no implementation for cpu torch.int8.*a \(cpu; float32\)"
    ):
        registry.choose(torch.device("cpu"), torch.int8)
    with pytest.raises(ValueError, match="no implementation for 'b'"):
        registry.choose(torch.device("cpu"), torch.float32, "b")


def test_first_that_serves_is_chosen_and_says_why():
    registry = Registry("op")
    registry.add("cuda only", lambda: 1, devices=("cuda",), dtypes=(torch.float32,))
    registry.add("any", lambda: 2, devices=("cpu", "cuda"), dtypes=(torch.float32,))
    choice = registry.choose(torch.device("cpu"), torch.float32)
    assert (choice.name, choice.function(), choice.reason) == (
        "any",
        2,
        "first to serve cpu torch.float32",
    )
    assert (
        registry.choose(torch.device("cpu"), torch.float32, "cuda only").reason
        == "asked for by name"
    )


def test_a_name_is_taken_once():
    registry = Registry("op")
    registry.add("a", lambda: None, devices=("cpu",), dtypes=(torch.float32,))
    with pytest.raises(ValueError, match="registered twice"):
        registry.add("a", lambda: None, devices=("cpu",), dtypes=(torch.float32,))


def test_float64_runs_the_definition_through_the_public_door():
    x, weight = torch.randn(3, 4).double(), torch.randn(5, 4).double()
    assert torch.equal(kernels.linear(x, weight), x @ weight.T)
    with pytest.raises(ValueError, match=r"linear: no .* cpu torch.int32"):
        kernels.linear(x.int(), weight.int())
