"""Red here means that writing tokens on a CPU computes something else than reading them."""

import sys
from importlib import import_module

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from measure import relative_rms

import kernels
from kernels.jit import run
from kernels.lightning import jit as lightning
from kernels.lightning import naive as naive_lightning
from kernels.norm import jit as norm
from kernels.norm import naive as naive_norm
from kernels.rotary import jit as rotary
from kernels.rotary import naive as naive_rotary
from kernels.rotary import plain as plain_rotary
from kernels.swiglu import jit as swiglu
from kernels.swiglu import naive as naive_swiglu

MODULES = (lightning, norm, rotary, swiglu)

pytestmark = pytest.mark.skipif(
    not all(module.is_usable() for module in MODULES), reason="no JIT for this processor"
)
ROWS = st.integers(1, run.SMALL_M)
SEED = st.integers(0, 2**31)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def loud(*shape, seed=0):
    """Rows of very different size, so that another's scale cannot pass for one's own."""
    return random(*shape, seed=seed) * torch.logspace(-2, 2, shape[0])[:, None]


def by_row(function, *tensors):
    rows = zip(*(tensor.split(1) for tensor in tensors), strict=True)
    return torch.cat([function(*row) for row in rows])


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, groups=st.integers(1, 4), width=st.integers(1, 70), seed=SEED)
def test_a_norm_is_the_definition_and_a_row_has_the_bits_it_has_alone(rows, groups, width, seed):
    x, weight = loud(rows, groups * width, seed=seed), 1 + random(groups * width, seed=1)
    got = kernels.rms_norm(x, weight, 1e-3, groups)
    assert relative_rms(got, naive_norm.rms_norm(x, weight, 1e-3, groups)) < 5e-7
    assert torch.equal(got, by_row(lambda row: norm.rms_norm(row, weight, 1e-3, groups), x))


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, width=st.integers(1, 200), alpha=st.sampled_from([1.0, 3.5]), seed=SEED)
def test_a_norm_of_a_sum_is_the_definition(rows, width, alpha, seed):
    x, block, weight = loud(rows, width, seed=seed), loud(rows, width, seed=1), random(width)
    arguments = (alpha, 0.25, weight, 1e-3)
    total, normed = kernels.rms_norm_of_sum(x, block, *arguments)
    want_total, _ = naive_norm.rms_norm_of_sum(x, block, *arguments)
    # Two sums may nearly cancel, so over what is added up.
    size = alpha * x.norm() + 0.25 * block.norm()
    assert (total.double() - want_total).norm() < 2e-7 * size
    assert relative_rms(normed, naive_norm.rms_norm(total, weight, 1e-3, 1)) < 1e-6
    assert torch.equal(normed, kernels.rms_norm(total, weight, 1e-3))
    for at in range(rows):
        row = slice(at, at + 1)
        alone = norm.rms_norm_of_sum(x[row], block[row], *arguments)
        assert torch.equal(alone[0], total[row]) and torch.equal(alone[1], normed[row])


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, width=st.integers(1, 100), size=st.sampled_from([0.1, 3.0, 90.0]), seed=SEED)
def test_swiglu_is_the_definition_and_a_row_has_the_bits_it_has_alone(rows, width, size, seed):
    x = size * random(rows, 2 * width, seed=seed)
    got = kernels.swiglu(x)
    want = naive_swiglu.swiglu(x)
    # A sigmoid that is no normal number may be 0, and a denormal result is off by more than 1e-6.
    lost = 2 * torch.finfo(torch.float32).tiny * (1 + (x[:, :width] * x[:, width:]).abs())
    assert relative_rms(got, want) < 1e-6 or ((got - want).abs() <= lost).all()
    assert torch.equal(got, by_row(swiglu.swiglu, x))


@pytest.mark.parametrize("gate", [-1e4, -88.0, -86.0, -1e-8, 0.0, 1e-8, 5.0, 88.0, 1e4])
def test_any_gate_is_weighed(gate):
    x = torch.tensor([[gate, 2.0]])
    assert abs(kernels.swiglu(x).item() - naive_swiglu.swiglu(x).item()) <= 4e-7 * abs(gate)


def test_what_is_not_a_number_stays_so():
    """Red: damaged weights write text instead of being found."""
    x = torch.tensor([[torch.nan, 1.0, 1.0, torch.nan]])
    assert kernels.swiglu(x).isnan().all()
    assert kernels.rms_norm(x, torch.ones(4), 1e-5).isnan().all()


@settings(max_examples=60, deadline=None)
@given(
    tokens=ROWS,
    heads=st.integers(1, 5),
    half=st.integers(0, 40),
    rest=st.integers(0, 40),
    seed=SEED,
)
def test_heads_are_turned_as_defined_wherever_they_lie(tokens, heads, half, rest, seed):
    head_dim = max(1, 2 * half + rest)
    x = random(tokens, heads + 3, head_dim, seed=seed)[:, 1 : 1 + heads]
    cosine, sine = random(tokens, 1, half, seed=1), random(tokens, 1, half, seed=2)
    got = kernels.rotate(x, cosine, sine)
    if half:
        assert relative_rms(got, naive_rotary.rotate(x, cosine, sine)) < 3e-7
    assert torch.equal(got, plain_rotary.rotate(x, cosine, sine))
    assert torch.equal(got[..., 2 * half :], x[..., 2 * half :])


def tokens_of(num_tokens, heads, width, out_width, seed=0):
    """q, k and v as views of wider rows, slopes from steep to nearly none, and a state."""
    rows = random(num_tokens, heads, 2 * width + out_width + 1, seed=seed)
    q, k, v, _ = rows.split((width, width, out_width, 1), dim=-1)
    state = random(heads, width, out_width, seed=1)
    return q, k, v, torch.logspace(0.5, -5, heads), state


@settings(max_examples=60, deadline=None)
@given(
    tokens=ROWS,
    heads=st.integers(1, 4),
    width=st.integers(1, 70),
    out_width=st.integers(1, 70),
    seed=SEED,
)
def test_the_recurrence_is_the_definition_and_tokens_have_the_bits_they_have_alone(
    tokens, heads, width, out_width, seed
):
    q, k, v, slopes, state = tokens_of(tokens, heads, width, out_width, seed)
    before = state.clone()
    got, after = kernels.lightning_attention(q, k, v, slopes, state)
    assert torch.equal(state, before)
    want, want_after = naive_lightning.lightning_attention(q, k, v, slopes, state)
    # Single sums may come out near zero, so over what is added up.
    sizes = naive_lightning.lightning_attention(q.abs(), k.abs(), v.abs(), slopes, state.abs())
    assert (got.double() - want).norm() < 1e-6 * sizes[0].norm()
    assert (after.double() - want_after).norm() < 1e-6 * sizes[1].norm()
    for at in range(tokens):
        one = slice(at, at + 1)
        out, state = kernels.lightning_attention(q[one], k[one], v[one], slopes, state)
        assert torch.equal(out, got[one])
    assert torch.equal(state, after)
    kept = kernels.lightning_state(k, v, slopes, before, torch.tensor(tokens))
    assert torch.equal(kept, after)


def test_the_recurrence_does_not_depend_on_threads():
    arguments = tokens_of(3, 9, 64, 64)
    alone = kernels.lightning_attention(*arguments)
    before = torch.get_num_threads()
    try:
        for num_threads in (2, 3, 5):
            torch.set_num_threads(num_threads)
            for _ in range(20):
                got = kernels.lightning_attention(*arguments)
                assert all(map(torch.equal, got, alone)), num_threads
    finally:
        torch.set_num_threads(before)


def test_sequences_beside_each_other_are_turned_alike():
    x, cosine, sine = random(2, 3, 4, 16), random(2, 1, 1, 8), random(2, 1, 1, 8, seed=1)
    want = [kernels.rotate(x[:, at], cosine[:, 0], sine[:, 0]) for at in range(3)]
    assert torch.equal(kernels.rotate(x, cosine, sine), torch.stack(want, dim=1))


def test_gradients_pass():
    x, weight = random(3, 8).requires_grad_(), random(8, seed=1).requires_grad_()
    turns = random(3, 1, 2, seed=2)
    for function, wanted in (
        (lambda: kernels.rms_norm(x, weight, 1e-5), (x, weight)),
        (lambda: kernels.rms_norm_of_sum(x, x, 2.0, 1.0, weight, 1e-5)[1], (x, weight)),
        (lambda: kernels.swiglu(x), (x,)),
        (lambda: kernels.rotate(x.view(3, 2, 4), turns, turns), (x,)),
    ):
        assert all(bool(g.any()) for g in torch.autograd.grad(function().square().sum(), wanted))


@pytest.mark.parametrize("module", MODULES)
def test_without_llvmlite_it_is_not_used(monkeypatch, module):
    package = module.__name__.rpartition(".")[0]
    import_module(f"{package}.jit_ir")
    for name in (f"{package}.jit_ir", "kernels.jit.builder", "llvmlite"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr(sys.modules[package], "jit_ir")
    assert not module.is_usable.__wrapped__()


def _off(result):
    return tuple(map(_off, result)) if isinstance(result, tuple) else result * 1.0001


@pytest.mark.parametrize("module", MODULES)
def test_a_wrong_result_is_found_out_before_it_is_used(monkeypatch, module):
    for name in ("_norm", "_swiglu", "_rotate", "_recurrence"):
        if hasattr(module, name):
            right = getattr(module, name)
            monkeypatch.setattr(module, name, lambda *x, right=right: _off(right(*x)))
    assert not module.is_usable.__wrapped__()


def test_other_processors_have_every_instruction_it_takes(instructions_of):
    from kernels.attention import jit_ir as of_attention
    from kernels.lightning import jit_ir as of_lightning
    from kernels.norm import jit_ir as of_norm
    from kernels.rotary import jit_ir as of_rotary
    from kernels.swiglu import jit_ir as of_swiglu

    for write in (
        lambda function: of_norm.write(function, True),
        of_norm.write_sum,
        of_lightning.write,
        lambda function: of_rotary.write(function, True),
        lambda function: of_attention.write_quantize(function, 64),
        of_swiglu.write,
    ):
        assert {"ret", "retq"} & instructions_of(write)
