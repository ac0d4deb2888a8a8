"""Red here means every layer's input has the wrong size."""

import pytest
import torch
import torch.nn.functional as F
from measure import relative_rms

import kernels
from kernels.jit import run
from kernels.norm import naive, plain, triton
from tests.kernels.interpreted import DEVICE, mutated
from tests.kernels.interpreted import poisoned as poisoned

TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 4e-3, torch.float16: 5e-4}
SHAPES = [((1, 6), 1), ((33, 37), 1), ((3, 4, 48), 3), ((2, 600), 4)]


def random(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(DEVICE, dtype)


@pytest.mark.parametrize("module", [plain, triton])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("shape", "groups"), SHAPES)
def test_norm_equals_the_definition(poisoned, module, dtype, shape, groups):
    x, weight = random(*shape, dtype=dtype), 1 + random(shape[-1], seed=1)
    arguments = (x, weight, 1e-3, groups)  # an eps that can be seen
    got = module.rms_norm(*arguments)
    assert got.dtype == dtype
    assert relative_rms(got, naive.rms_norm(*arguments)) < TOLERANCE[dtype]


@pytest.mark.parametrize("module", [plain, triton])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (3.5, 0.25)])
def test_norm_of_a_sum_equals_the_definition(poisoned, module, dtype, alpha, beta):
    skip, block = random(7, 37, dtype=dtype), random(7, 37, seed=1, dtype=dtype)
    arguments = (skip, block, alpha, beta, 1 + random(37, seed=2), 1e-3)
    for got, want in zip(
        module.rms_norm_of_sum(*arguments), naive.rms_norm_of_sum(*arguments), strict=True
    ):
        assert got.dtype == dtype
        assert relative_rms(got, want) < 2 * TOLERANCE[dtype]


def test_what_is_normed_is_the_sum_later_layers_see(poisoned):
    skip, block = (random(5, 64, seed=seed, dtype=torch.bfloat16) for seed in (0, 1))
    weight = 1 + random(64, seed=2)
    total, normed = triton.rms_norm_of_sum(skip, block, 3.5, 0.25, weight, 1e-5)
    assert torch.equal(normed, triton.rms_norm(total, weight, 1e-5, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("alpha", [1.0, 3.5])
def test_on_a_cpu_it_is_add_then_norm_bit_by_bit(dtype, alpha):
    many = run.SMALL_M + 1
    skip, block = (random(many, 64, seed=seed, dtype=dtype).cpu() for seed in (0, 1))
    weight = 1 + random(64, seed=2).cpu()
    total, normed = kernels.rms_norm_of_sum(skip, block, alpha, 0.25, weight, 1e-5)
    want = torch.add(skip if alpha == 1.0 else alpha * skip, block, alpha=0.25)
    assert torch.equal(total, want)
    assert torch.equal(normed, F.rms_norm(want.float(), (64,), weight, 1e-5).to(dtype))
    assert torch.equal(kernels.rms_norm(want, weight, 1e-5), normed)


def test_gradients_pass_through_a_gpus_norm():
    x, weight = random(3, 8).requires_grad_(), random(8, seed=1).requires_grad_()
    got = torch.autograd.grad(triton.rms_norm(x, weight, 1e-5, 1).square().sum(), (x, weight))
    want = torch.autograd.grad(naive.rms_norm(x, weight, 1e-5, 1).square().sum(), (x, weight))
    assert all(relative_rms(a, b) < 1e-5 for a, b in zip(got, want, strict=True))


MUTANTS = {
    "no eps": ("/ size + eps", "/ size"),
    "no alpha": ("alpha * skip", "skip"),
    "the mean over the power of two": ("axis=0) / size", "axis=0) / SIZE"),
    "zeros": ("x * scale", "x * 0"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_wrong_kernel_is_caught(tmp_path, mutant):
    wrong = mutated(triton, tmp_path, *MUTANTS[mutant])
    arguments = (random(7, 37), random(7, 37, seed=1), 3.5, 0.25, random(37, seed=2), 1e-1)
    want = naive.rms_norm_of_sum(*arguments)[1]
    assert relative_rms(triton.rms_norm_of_sum(*arguments)[1], want) < 1e-6
    assert not relative_rms(wrong.rms_norm_of_sum(*arguments)[1], want) < 1e-3
