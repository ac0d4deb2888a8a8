"""Red here means a GGUF model computes other than its weights say, or not the same twice."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from measure import relative_rms

import kernels
from kernels import BlockType, GgmlWeight, StackedWeight
from kernels.ggml.random import random_weight
from kernels.linear import dequantize_blocks, naive, narrow
from kernels.linear.ggml import jit

pytestmark = pytest.mark.skipif(
    not jit.is_usable(BlockType.Q4_K), reason="no JIT for this processor"
)

TYPES = list(BlockType)
LARGE_M = jit.SMALL_M + 9
SEED = st.integers(0, 2**31)
ROUNDING = 6e-5  # of x to int16, for normal x; 9e-5 of the product of norms whatever x is


def inputs(kind, num_rows, num_out, num_blocks, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weight = random_weight(kind, num_out, num_blocks * kind.elements, generator)
    x = torch.randn(num_rows, weight.shape[1], generator=generator)
    return x * torch.logspace(-2, 2, num_rows)[:, None], weight


def off(got, x, weight):
    """The largest error of an output over the norms it is a product of."""
    want = naive.linear(x, weight)
    norms = x.double().norm(dim=1)[:, None] * weight.dequantize(torch.float64).norm(dim=1)
    return ((got - want).abs() / norms.clamp(min=1e-300)).max().item()


def one_by_one(x, weight):
    return torch.cat([kernels.linear(row[None], weight) for row in x])


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=30, deadline=None)
@given(
    num_rows=st.integers(1, 40),
    num_out=st.integers(1, 40),
    size=st.integers(1, 20),
    seed=SEED,
)
def test_it_is_the_definition_and_few_rows_have_the_bits_they_have_alone(
    kind, num_rows, num_out, size, seed
):
    num_blocks = size if kind.elements == 32 else 1 + size // 8
    x, weight = inputs(kind, num_rows, num_out, num_blocks, seed)
    assert jit.supports(x, weight) and kernels.is_batch_invariant(weight)
    got = kernels.linear(x, weight)
    assert off(got, x, weight) < ROUNDING
    if num_rows <= jit.SMALL_M:
        assert torch.equal(got, one_by_one(x, weight))
    else:  # other large M, other outputs beside
        assert torch.equal(kernels.linear(x[: jit.SMALL_M + 1], weight), got[: jit.SMALL_M + 1])
        assert torch.equal(kernels.linear(x, weight[num_out // 2 :]), got[:, num_out // 2 :])


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("num_rows", [3, LARGE_M])
def test_bits_do_not_depend_on_threads(monkeypatch, kind, num_rows):
    monkeypatch.setattr(jit, "_CHUNK_BYTES", 1024)  # so that there is work for many
    monkeypatch.setattr(jit, "_PARALLEL_ELEMENTS", 1)
    x, weight = inputs(kind, num_rows, 301, 512 // kind.elements)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = kernels.linear(x, weight)
        for num_threads in (2, 3, 5):
            torch.set_num_threads(num_threads)
            for _ in range(5):
                assert torch.equal(kernels.linear(x, weight), alone), num_threads
    finally:
        torch.set_num_threads(before)
    assert off(alone, x, weight) < ROUNDING


def moved(tensor, by):
    """The same numbers `by` bytes behind a boundary, and the bytes around them 255."""
    buffer = torch.full((tensor.nbytes + 256,), 255, dtype=torch.uint8)
    start = -buffer.data_ptr() % 64 + by
    place = buffer[start : start + tensor.nbytes]
    place.copy_(tensor.reshape(-1).view(torch.uint8))
    return place.view(tensor.dtype).view(tensor.shape)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("num_rows", [5, LARGE_M])
def test_weights_lie_anywhere_and_nothing_around_them_is_used(kind, num_rows):
    x, weight = inputs(kind, num_rows, 23, 512 // kind.elements)
    elsewhere = GgmlWeight(kind, moved(weight.packed, 3))
    want = kernels.linear(x, weight)
    assert torch.equal(kernels.linear(moved(x, 4), elsewhere), want)
    assert torch.equal(elsewhere.dequantize(), weight.dequantize())


def extreme(kind, byte):
    """Every code and every scale of a block at one end."""
    packed = torch.full((9, 2 * kind.num_bytes), byte, dtype=torch.uint8)
    reference = random_weight(kind, 9, 2 * kind.elements, torch.Generator().manual_seed(1))
    finite = GgmlWeight(kind, packed).dequantize().isfinite().all()
    if finite:
        return GgmlWeight(kind, packed)
    blocks, sizes = packed.view(9, 2, -1), reference.packed.view(9, 2, -1)
    for at in (0, 2, 80, 82, 108, 208):  # wherever any kind has a float16
        if at + 2 <= kind.num_bytes:
            blocks[..., at : at + 2] = sizes[..., at : at + 2]
            if GgmlWeight(kind, packed).dequantize().isfinite().all():
                break
    return GgmlWeight(kind, packed)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("byte", [0x00, 0x7F, 0x80, 0xFF])
@pytest.mark.parametrize("num_rows", [2, LARGE_M])
def test_sums_of_the_largest_codes_do_not_overflow(kind, byte, num_rows):
    weight = extreme(kind, byte)
    for x in (torch.ones(num_rows, weight.shape[1]), -torch.ones(num_rows, weight.shape[1])):
        assert off(kernels.linear(x, weight), x, weight) < 1e-5


@pytest.mark.parametrize("num_rows", [2, LARGE_M])
@pytest.mark.parametrize("scale", [0.0, -65504.0, 65504.0, 6e-8, -3e-5])
def test_any_scale_is_weighed(scale, num_rows):
    x, weight = inputs(BlockType.Q8_0, num_rows, 21, 5)
    blocks = weight.packed.view(21, 5, 34)
    blocks[:, 1, :2] = torch.tensor([scale]).half().view(torch.uint8)
    assert off(kernels.linear(x, weight), x, weight) < ROUNDING


@pytest.mark.parametrize("num_rows", [2, LARGE_M])
def test_one_loud_column_costs_the_others_no_more_than_is_said(num_rows):
    x, weight = inputs(BlockType.Q4_K, num_rows, 21, 2)
    x[:, 7] *= 1e4
    assert off(kernels.linear(x, weight), x, weight) < 9e-5
    x[:, 256:] = 0
    assert off(kernels.linear(x, weight), x, weight) < 9e-5
    assert torch.equal(kernels.linear(torch.zeros_like(x), weight), torch.zeros(num_rows, 21))


@pytest.mark.parametrize("kind", [BlockType.Q8_0, BlockType.Q4_K, BlockType.Q6_K])
@pytest.mark.parametrize("num_rows", [4, LARGE_M])
def test_loud_columns_here_and_there_do_not_spoil_the_rest(kind, num_rows):
    """Red: log-probabilities are off as real activations are loud in one column of a hundred."""
    x, weight = inputs(kind, num_rows, 64, 4096 // kind.elements)
    is_loud = torch.rand(4096, generator=torch.Generator().manual_seed(1)) < 0.01
    x = torch.where(is_loud, 300.0, 1.0) * x
    assert relative_rms(kernels.linear(x, weight), naive.linear(x, weight)) < ROUNDING


@pytest.mark.parametrize("num_rows", [2, LARGE_M])
@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_rows_may_be_of_any_size(num_rows, size):
    x, weight = inputs(BlockType.Q6_K, num_rows, 21, 2)
    assert off(kernels.linear(x * size, weight), x * size, weight) < ROUNDING


@pytest.mark.parametrize("num_rows", [2, LARGE_M])
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_what_is_not_a_number_stays_so_in_its_row(num_rows, wrong):
    """Red: damaged weights write text instead of being found, or one row spoils another."""
    x, weight = inputs(BlockType.Q5_0, num_rows, 21, 9)
    clean = kernels.linear(x, weight)
    x[1, 40] = wrong
    got = kernels.linear(x, weight)
    assert not got[1].isfinite().any()
    assert torch.equal(got[0], clean[0]) and torch.equal(got[2:], clean[2:])


def mixed(width=256):
    generator = torch.Generator().manual_seed(3)
    return StackedWeight(
        (
            random_weight(BlockType.Q5_0, 13, width, generator),
            random_weight(BlockType.Q6_K, 7, width, generator),
            torch.randn(3, width, generator=generator).half(),
            torch.randn(5, width, generator=generator),
            torch.randn(4, width, generator=generator).bfloat16(),
        )
    )


@pytest.mark.parametrize("num_rows", [1, 5, LARGE_M])
def test_a_stack_is_multiplied_as_its_parts_are(num_rows):
    weight = mixed()
    x = torch.randn(num_rows, 256, generator=torch.Generator().manual_seed(1))
    got = kernels.linear(x, weight)
    want = torch.cat([kernels.linear(x, part) for part in weight.parts], dim=1)
    assert torch.equal(got, want)
    assert relative_rms(got, naive.linear(x, weight)) < ROUNDING
    shaped = kernels.linear(x.view(1, num_rows, 256), weight)
    assert torch.equal(shaped, got[None])


def test_a_stack_is_batch_invariant_where_all_its_parts_are():
    weight = mixed()
    assert not kernels.is_batch_invariant(weight)  # the float32 part is torch's
    steady = StackedWeight(weight.parts[:3])
    assert kernels.is_batch_invariant(steady)
    x = torch.randn(jit.SMALL_M, 256, generator=torch.Generator().manual_seed(1))
    assert torch.equal(kernels.linear(x, steady), one_by_one(x, steady))


@pytest.mark.parametrize("num_tokens", [1, 30])
def test_experts_are_multiplied_where_they_lie(num_tokens):
    generator = torch.Generator().manual_seed(0)
    num_experts, inner, width = 4, 256, 256
    gate, up = (
        random_weight(kind, num_experts * inner, width, generator).view(num_experts, inner)
        for kind in (BlockType.Q4_K, BlockType.Q5_0)
    )
    down = random_weight(BlockType.Q6_K, num_experts * width, inner, generator)
    weights = StackedWeight((gate, up)), down.view(num_experts, width)
    x = torch.randn(num_tokens, width, generator=generator)
    chosen, ids = torch.randn(num_tokens, num_experts, generator=generator).softmax(-1).topk(2)
    got = kernels.experts(x, ids, chosen, *weights)
    want = kernels.experts(x.double(), ids, chosen, *weights, implementation="naive")
    assert relative_rms(got, want) < 2 * ROUNDING


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_rows_are_rounded_once(dtype):
    x, weight = inputs(BlockType.Q4_0, 4, 33, 8)
    x = x.to(dtype)
    assert torch.equal(kernels.linear(x, weight), kernels.linear(x.float(), weight).to(dtype))


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("num_rows", [2, LARGE_M])
def test_without_the_jit_blocks_are_dequantised(monkeypatch, kind, num_rows):
    x, weight = inputs(kind, num_rows, 12, 256 // kind.elements)
    monkeypatch.setattr(jit, "is_usable", lambda kind: False)
    monkeypatch.delattr(jit, "prepared")  # which needs llvmlite
    assert not kernels.is_batch_invariant(weight)
    got = kernels.linear(x, weight)
    assert off(got, x, weight) < 1e-6
    assert torch.equal(got, dequantize_blocks.linear(x, weight))
    stack = StackedWeight((weight, weight[:3]))
    assert off(kernels.linear(x, stack), x, stack) < 1e-6


def test_gradients_pass():
    x, weight = inputs(BlockType.Q4_K, 2, 12, 1)
    x.requires_grad_()
    for one in (weight, StackedWeight((weight, weight))):
        (grad,) = torch.autograd.grad(kernels.linear(x, one).sum(), x)
        assert relative_rms(grad, one.dequantize().sum(0).expand(2, -1)) < 1e-5


@pytest.mark.parametrize("num_rows", [2, LARGE_M])
def test_rows_of_another_width_are_refused(num_rows):
    """Red: memory beyond the rows is read."""
    x, weight = inputs(BlockType.Q4_0, num_rows, 4, 3)
    with pytest.raises(ValueError, match=r"rows of 64 elements, a weight of \[4, 96\]"):
        kernels.linear(x[:, :64], weight)
    with pytest.raises(ValueError, match=r"rows of 64 elements, a weight of \[4, 96\]"):
        kernels.linear(x[:, :64], StackedWeight((weight,)))


def zeros(x, weight):
    return x.new_zeros(len(x), weight.shape[0])


def of_other_codes(x, weight):
    return jit._matmul(x, GgmlWeight(weight.type, weight.packed ^ 32))


def summed_together(x, weight):
    return jit._matmul(x, weight) * (1 + 2e-7 * len(x))


@pytest.mark.parametrize("wrong", [zeros, of_other_codes, summed_together])
def test_a_wrong_product_is_found_out_before_it_is_used(monkeypatch, wrong):
    """Red: a processor or a library with a fault gives wrong answers in silence."""
    right = jit._matmul

    def patched(x, weight):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jit, "_matmul", right)
            return wrong(x, weight)

    monkeypatch.setattr(jit, "_matmul", patched)
    assert not jit.is_usable.__wrapped__(BlockType.Q4_K)


def test_without_llvmlite_it_is_not_used(monkeypatch):
    package = sys.modules["kernels.linear.ggml"]
    for name in ("pack_ir", "small_m_ir", "large_m_ir", "unpack_ir", "stack_ir"):
        monkeypatch.setitem(sys.modules, f"kernels.linear.ggml.{name}", None)
        monkeypatch.delattr(package, name)
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    assert not jit.is_usable.__wrapped__(BlockType.Q4_K)


@pytest.mark.parametrize("kind", [BlockType.Q4_K, BlockType.Q6_K, BlockType.Q5_0, BlockType.IQ4_XS])
@pytest.mark.parametrize("has_many_registers", [False, True])
@pytest.mark.parametrize("room", ["small_m_ir", "large_m_ir"])
def test_other_processors_have_every_instruction_it_takes(
    instructions_of, kind, has_many_registers, room
):
    """Red: on such a machine the code calls functions that are not there, and the process dies."""
    from kernels.linear.ggml import large_m_ir, small_m_ir

    module = {"small_m_ir": small_m_ir, "large_m_ir": large_m_ir}[room]
    found = instructions_of(lambda function: module.write(function, kind, has_many_registers))
    assert any(name.startswith(("vpmaddwd", "vpdpwssd", "smull", "smlal")) for name in found)


def test_rows_are_packed_by_what_every_processor_has(instructions_of):
    from kernels.linear.ggml import pack_ir

    for form in jit.RowForm:
        found = instructions_of(lambda function, form=form: pack_ir.write(function, form))
        assert any(name.startswith(("vfmadd", "fmla")) for name in found)


@pytest.mark.parametrize("kind", TYPES)
def test_smaller_tiles_give_the_same_bits(monkeypatch, kind):
    """As processors with AVX2 only have them; run here with AVX2 only where this one has more."""
    from kernels.linear.ggml import large_m_ir, small_m_ir

    few, weight = inputs(kind, 7, 23, 256 // kind.elements)
    many, _ = inputs(kind, LARGE_M, 23, 256 // kind.elements)
    want = [kernels.linear(x, weight) for x in (few, many)]
    for module in (small_m_ir, large_m_ir):
        write = module.write
        monkeypatch.setattr(module, "write", lambda f, k, many, w=write: w(f, k, not many))
        address = module.compiled.__wrapped__(kind)
        monkeypatch.setattr(module, "compiled", lambda kind, address=address: address)
    got = [kernels.linear(x, weight[:]) for x in (few, many)]  # nothing is prepared for it yet
    assert all(map(torch.equal, got, want))


DTYPES = (torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=30, deadline=None)
@given(
    num_rows=st.integers(1, 40), num_out=st.integers(1, 40), width=st.integers(1, 200), seed=SEED
)
def test_narrow_weights_are_not_rounded_again(dtype, num_rows, num_out, width, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_rows, width, generator=generator)
    weight = torch.randn(num_out, width, generator=generator).to(dtype)
    got = kernels.linear(x, weight)
    norms = x.norm(dim=1)[:, None] * weight.float().norm(dim=1)
    assert ((got - naive.linear(x, weight)).abs() / norms).max() < 1e-6
    assert kernels.is_batch_invariant(weight)
    if num_rows <= narrow.SMALL_M:
        assert torch.equal(got, one_by_one(x, weight))


def test_narrow_weights_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"rows of 64 elements, a weight of \[4, 96\]"):
        kernels.linear(torch.zeros(2, 64), torch.zeros(4, 96).half())
    assert not narrow.supports_weight(torch.zeros(4, 96).half().T)
    assert not narrow.supports_weight(torch.zeros(4, 96))


def test_what_is_prepared_for_a_weight_dies_with_it():
    """Red: memory leaks with every expert that is cut out, or one weight is taken for another."""
    x, weight = inputs(BlockType.Q8_0, 1, 5, 3)
    stack = StackedWeight((weight, weight[:2]))
    before = len(jit._PREPARED)
    kernels.linear(x, weight)
    kernels.linear(x, stack)
    assert len(jit._PREPARED) == before + 2
    del weight, stack
    assert len(jit._PREPARED) == before
