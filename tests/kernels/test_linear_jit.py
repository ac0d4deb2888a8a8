"""Red here means few rows are not multiplied with the weights, or their bits depend on company."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from measure import relative_rms

import kernels
from kernels.linear import dequantize_blocks, dequantize_int4, jit, naive
from kernels.quantized import GROUPS, Int4Weight, Int8Weight

pytestmark = pytest.mark.skipif(not jit.is_usable(0), reason="no JIT for this processor")

KINDS = (0, *GROUPS)  # columns of a group; 0 is int8


def inputs(group, num_rows, num_out, width, seed=0):
    """Groups of very different size, so that another's scale cannot pass for one's own."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_rows, width, generator=generator)
    weight = torch.randn(num_out, width, generator=generator)
    loudness = torch.rand(num_out, width // 32 + 1, generator=generator).mul(6).exp2()
    weight = (weight + 0.3) * loudness.repeat_interleave(32, dim=1)[:, :width]
    return x, Int4Weight.quantize(weight, group) if group else Int8Weight.quantize(weight)


def distance(got, x, weight):
    """As `relative_rms`, but single sums may come out near zero: over the sum of magnitudes."""
    error = (got.double() - naive.linear(x, weight)).square().mean().sqrt()
    return (error / (x.double().abs() @ weight.dequantize(torch.float64).abs().T).mean()).item()


def one_by_one(x, weight):
    return torch.cat([jit.linear(row[None], weight) for row in x])


@pytest.mark.parametrize("group", KINDS)
@settings(max_examples=40, deadline=None)
@given(
    num_rows=st.integers(1, jit.SMALL_M),
    num_out=st.integers(1, 40),
    size=st.integers(1, 40),
    seed=st.integers(0, 2**31),
)
def test_it_is_the_definition_and_a_row_has_the_bits_it_has_alone(
    group, num_rows, num_out, size, seed
):
    x, weight = inputs(group, num_rows, num_out, size * group or 5 * size, seed)
    assert jit.supports(x, weight)
    got = jit.linear(x, weight)
    assert distance(got, x, weight) < 1e-6
    assert torch.equal(got, one_by_one(x, weight))


@pytest.mark.parametrize("group", KINDS)
def test_bits_do_not_depend_on_threads(monkeypatch, group):
    monkeypatch.setattr(jit, "_CHUNK_BYTES", 1024)  # so that there is work for many
    x, weight = inputs(group, 3, 1001, 384)
    alone = jit.linear(x, weight)
    before = torch.get_num_threads()
    try:
        for num_threads in (2, 3, 5):
            torch.set_num_threads(num_threads)
            for _ in range(20):
                assert torch.equal(jit.linear(x, weight), alone), num_threads
    finally:
        torch.set_num_threads(before)
    assert relative_rms(alone, naive.linear(x, weight)) < 2e-6


def moved(tensor, by):
    """The same numbers `by` bytes behind a boundary, and the bytes around them NaN or 255."""
    buffer = torch.full((tensor.nbytes + 256,), 255, dtype=torch.uint8)
    start = -buffer.data_ptr() % 64 + by
    place = buffer[start : start + tensor.nbytes]
    place.copy_(tensor.reshape(-1).view(torch.uint8))
    return place.view(tensor.dtype).view(tensor.shape)


@pytest.mark.parametrize("group", KINDS)
def test_weights_lie_anywhere_and_nothing_around_them_is_used(group):
    x, weight = inputs(group, 5, 23, 384)
    want = jit.linear(x, weight)
    if group:
        parts = moved(weight.packed, 1), moved(weight.scales, 2), moved(weight.offsets, 6)
        elsewhere = Int4Weight(*parts)
    else:
        elsewhere = Int8Weight(moved(weight.codes, 3), moved(weight.scales, 4))
    assert torch.equal(jit.linear(moved(x, 4), elsewhere), want)


@pytest.mark.parametrize("group", GROUPS)
@settings(max_examples=20, deadline=None)
@given(num_out=st.integers(1, 60), size=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_int4_weights_are_widened_to_their_every_bit(group, num_out, size, seed):
    """Red: products of many rows are with other weights, or a prefill depends on llvmlite."""
    _, weight = inputs(group, 1, num_out, size * group, seed)
    out = torch.full((num_out + 2, size * group), torch.nan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dequantize_int4, "_CHUNK_BYTES", 5 * size * group // 2)
        assert dequantize_int4.is_usable(group)
        assert torch.equal(dequantize_int4.dequantize_int4(weight, out), weight.dequantize())
    assert out[num_out:].isnan().all()
    assert torch.equal(dequantize_int4.dequantize_int4(weight[::2], out), weight.dequantize()[::2])


def test_weights_that_come_out_wrong_are_left_to_torch(monkeypatch):
    monkeypatch.setattr(dequantize_int4, "_dequantize", lambda weight, out: out.fill_(0.5))
    assert not dequantize_int4.is_usable.__wrapped__(32)


def test_experts_of_a_stack_are_indexed_without_a_copy():
    generator = torch.Generator().manual_seed(0)
    stack = Int4Weight.quantize(torch.randn(3, 20, 128, generator=generator), 64)
    x = torch.randn(2, 128, generator=generator)
    for expert in range(3):
        assert jit.supports(x, stack[expert])
        assert relative_rms(jit.linear(x, stack[expert]), naive.linear(x, stack[expert])) < 2e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_rows_are_rounded_once(dtype):
    x, weight = inputs(64, 4, 33, 256)
    x = x.to(dtype)
    assert torch.equal(kernels.linear(x, weight), jit.linear(x.float(), weight).to(dtype))


def test_what_it_does_not_serve_goes_by_blocks(monkeypatch):
    x, weight = inputs(32, jit.SMALL_M + 1, 12, 96)
    assert torch.equal(kernels.linear(x, weight), dequantize_blocks.linear(x, weight))
    few = x[:2].requires_grad_()
    kernels.linear(few, weight).sum().backward()
    assert relative_rms(few.grad, weight.dequantize().sum(0).expand(2, -1)) < 1e-5
    with torch.no_grad():
        assert jit.supports(few, weight)
        apart = Int4Weight(*(part[::2] for part in (weight.packed, weight.scales, weight.offsets)))
        assert not jit.supports(few, apart)
        want = dequantize_blocks.linear(few, weight)
        monkeypatch.setattr(jit, "is_usable", lambda group: False)
        assert torch.equal(kernels.linear(few, weight), want)


@pytest.mark.parametrize("group", [0, 32])
def test_rows_of_another_width_are_refused(group):
    """Red: memory beyond the rows is read."""
    x, weight = inputs(group, 2, 4, 96)
    with pytest.raises(ValueError, match=r"rows of 64 elements, a weight of \[4, 96\]"):
        kernels.linear(x[:, :64], weight)


def zeros(x, weight):
    return x.new_zeros(len(x), weight.shape[0])


def of_one_scale(x, weight):
    return jit._matmul(x, Int8Weight(weight.codes, weight.scales[0].repeat(len(weight.scales))))


def summed_together(x, weight):
    return jit._matmul(x, weight) * (1 + 2e-7 * len(x))


@pytest.mark.parametrize("wrong", [zeros, of_one_scale, summed_together])
def test_a_wrong_product_is_found_out_before_it_is_used(monkeypatch, wrong):
    """Red: a processor or a library with a fault gives wrong answers in silence."""
    right = jit._matmul
    monkeypatch.setattr(jit, "_matmul", lambda x, w: _patched(wrong, right, x, w))
    assert not jit.is_usable.__wrapped__(0)


def _patched(wrong, right, x, weight):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jit, "_matmul", right)
        return wrong(x, weight)


def test_without_llvmlite_it_is_not_used(monkeypatch):
    for name in ("kernels.linear.jit_ir", "kernels.jit.builder", "llvmlite"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr(sys.modules["kernels.linear"], "jit_ir")
    assert not jit.is_usable.__wrapped__(0)
    assert not dequantize_int4.is_usable.__wrapped__(32)


def test_a_processor_without_fma_is_not_served(monkeypatch):
    from kernels.jit.builder import llvm

    features = llvm.get_host_cpu_features()
    features["fma"] = features["neon"] = False
    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: features)
    from kernels.linear import jit_ir

    monkeypatch.setattr(jit_ir, "compiled", jit_ir.compiled.__wrapped__)
    assert not jit.is_usable.__wrapped__(0)


@pytest.mark.parametrize("group", KINDS)
def test_smaller_tiles_give_the_same_bits(monkeypatch, group):
    """As processors with AVX2 only have them; run here with AVX2 only where this one has more."""
    from kernels.jit.builder import llvm
    from kernels.linear import jit_ir

    x, weight = inputs(group, 7, 23, 9 * group or 123)
    want = jit.linear(x, weight)
    features = llvm.get_host_cpu_features()
    for name in features:
        if name.startswith("avx512"):
            features[name] = False
    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: features)
    address = jit_ir.compiled.__wrapped__(group)
    monkeypatch.setattr(jit_ir, "compiled", lambda group: address)
    assert torch.equal(jit.linear(x, weight), want)


@pytest.mark.parametrize("group", [0, 32, None])
@pytest.mark.parametrize("has_many_registers", [False, True])
def test_other_processors_have_every_instruction_it_takes(
    instructions_of, group, has_many_registers
):
    """Red: on such a machine the code calls functions that are not there, and the process dies."""
    from kernels.linear import jit_ir

    def write(function):
        if group is None:
            jit_ir.write_dequant(function, 64)
        else:
            jit_ir.write(function, group, has_many_registers)

    assert any(name.startswith(("vfmadd", "fmla")) for name in instructions_of(write))
