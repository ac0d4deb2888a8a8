"""Red here means --fast computes other than it says, or not the same twice."""

from dataclasses import replace

import pytest
import torch

import kernels
from kernels import BlockType, StackedWeight
from kernels.ggml.dequantize import _PARTS
from kernels.ggml.random import random_weight
from kernels.linear import int8_rows, naive
from kernels.linear.ggml import jit

builder = pytest.importorskip("kernels.jit.builder")

# A zero of their own, an offset, signed codes, groups of 16: what the code makes a difference of.
KINDS = [BlockType.Q5_0, BlockType.Q4_K, BlockType.Q8_0, BlockType.Q6_K]
BIAS = {BlockType.Q5_0: 16, BlockType.Q6_K: 32}
LARGE_M = jit.SMALL_M + 9
needs_bytes = pytest.mark.skipif(
    not jit.multiplies_bytes(BlockType.Q4_K), reason="no products of bytes on this processor"
)


def inputs(kind, num_rows, num_out=21, num_blocks=0):
    generator = torch.Generator().manual_seed(num_rows)
    width = (num_blocks or 1024 // kind.elements) * kind.elements
    weight = replace(random_weight(kind, num_out, width, generator), has_int8_rows=True)
    return torch.randn(num_rows, width, generator=generator), weight


def bound(x, weight):
    """Of float32's rounding: two in a group, of what was added so far, and a few at the end."""
    kind = weight.type
    blocks = weight.packed.reshape(-1, kind.num_bytes)
    scales, codes, offsets = _PARTS[kind](blocks, torch.float64)
    sizes = scales.abs()[..., None] * (codes.double().abs() + BIAS.get(kind, 0))
    if offsets is not None:
        sizes = sizes + offsets.abs()[..., None]
    num_groups = sizes.shape[-2] * weight.shape[1] // kind.elements
    sums = int8_rows.rounded(x).abs() @ sizes.reshape(weight.shape).T
    return (2 * num_groups + 16) * 2.0**-24 * sums


def test_codes_are_the_nearest_and_halves_go_to_even():
    x = torch.tensor([[127.0, 0.5, 1.5, -2.5, -126.5, 3.49] + [0.0] * 26 + [0.0] * 32])
    codes, scales = int8_rows.quantize(x)
    assert codes[0, 0, :6].tolist() == [127, 0, 2, -2, -126, 3]
    assert scales.tolist() == [[1.0, 0.0]] and not codes[0, 1].any()
    some = torch.randn(3, 96, generator=torch.Generator().manual_seed(0))
    most = some.view(3, 3, 32).abs().amax(-1).repeat_interleave(32, 1)
    assert ((int8_rows.rounded(some) - some).abs() <= most / 254 * (1 + 1e-5)).all()


@pytest.mark.parametrize("form", [jit.RowForm.INT8, jit.RowForm.INT8_IN_INT16])
def test_the_jit_rounds_as_is_defined(form):
    """Red: processors differ, as one code in a thousand is another."""
    x = torch.randn(50, 4096, generator=torch.Generator().manual_seed(1))
    packed = jit.pack(x, form)
    kind = torch.int8 if form.num_bytes == 1 else torch.int16
    got = packed.memory[: form.num_bytes * x.numel()].view(kind).view(50, -1, 32)
    if form is jit.RowForm.INT8_IN_INT16:  # even columns first
        got = got.view(50, -1, 2, 16).transpose(-1, -2).flatten(-2)
    assert torch.equal(got.float(), int8_rows.quantize(x)[0])


@needs_bytes
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_definition_and_a_row_has_the_bits_it_has_alone(kind):
    assert jit.multiplies_bytes(kind)
    for num_rows in (1, 4, 7, jit.SMALL_M, LARGE_M):
        x, weight = inputs(kind, num_rows)
        got = kernels.linear(x, weight)
        assert ((got - naive.linear(x, weight)).abs() <= bound(x, weight)).all()
        if num_rows <= jit.SMALL_M:
            assert kernels.is_batch_invariant(weight)
            assert torch.equal(got, torch.cat([kernels.linear(row[None], weight) for row in x]))
        else:
            fewer = kernels.linear(x[: jit.SMALL_M + 1], weight)
            assert torch.equal(fewer, got[: jit.SMALL_M + 1])
            assert torch.equal(kernels.linear(x, weight[9:]), got[:, 9:])


@needs_bytes
@pytest.mark.parametrize("kind", KINDS)
def test_sums_of_the_largest_codes_do_not_overflow(kind):
    for byte in (0x7F, 0x80, 0xFF):
        x, weight = inputs(kind, 1)
        blocks = weight.packed.view(-1, kind.num_bytes)
        start, stop = {"Q5_0": (2, 22), "Q4_K": (16, 144), "Q8_0": (2, 34), "Q6_K": (0, 208)}[kind]
        blocks[:, start:stop] = byte
        for num_rows in (2, LARGE_M):
            for rows in (torch.ones(num_rows, x.shape[1]), -torch.ones(num_rows, x.shape[1])):
                got = kernels.linear(rows, weight)
                assert ((got - naive.linear(rows, weight)).abs() <= bound(rows, weight)).all()


@pytest.mark.parametrize("num_rows", [2, LARGE_M])
def test_without_products_of_bytes_the_rounding_is_the_same(monkeypatch, num_rows):
    """Red: --fast means one thing on x86 and another on Arm, or where nothing can be compiled."""
    x, weight = inputs(BlockType.Q4_K, num_rows)
    monkeypatch.setattr(jit, "multiplies_bytes", lambda kind: False)
    got = kernels.linear(x, weight)
    assert ((got - naive.linear(x, weight)).abs() <= bound(x, weight)).all()
    monkeypatch.setattr(jit, "is_usable", lambda kind: False)
    plain = kernels.linear(x, weight)
    assert ((plain - naive.linear(x, weight)).abs().max() / plain.abs().max()) < 1e-6


def test_a_stack_is_of_one_rounding():
    x, weight = inputs(BlockType.Q8_0, 2)
    parts = StackedWeight((weight, weight[:5]))
    got = kernels.linear(x, parts)
    assert torch.equal(got, torch.cat([kernels.linear(x, part) for part in parts.parts], dim=1))
    with pytest.raises(ValueError, match="some with rows in int8"):
        kernels.linear(x, StackedWeight((weight, replace(weight, has_int8_rows=False))))


@needs_bytes
@pytest.mark.parametrize("num_rows", [2, LARGE_M])
def test_what_is_not_a_number_stays_so_in_its_row(num_rows):
    x, weight = inputs(BlockType.Q5_0, num_rows)
    clean = kernels.linear(x, weight)
    for wrong in (torch.nan, torch.inf):
        x[1, 40] = wrong
        got = kernels.linear(x, weight)
        assert not got[1].isfinite().any()
        assert torch.equal(got[0], clean[0]) and torch.equal(got[2:], clean[2:])


@pytest.mark.parametrize(
    ("cpu", "has_vnni", "product"),
    [
        ("haswell", False, "vpmaddubsw"),
        ("alderlake", True, "vpdpbusd"),
        ("sapphirerapids", True, "vpdpbusd"),
    ],
)
def test_processors_have_every_instruction_it_takes(cpu, has_vnni, product):
    llvm = pytest.importorskip("llvmlite.binding")
    from kernels.jit.builder import optimised
    from kernels.linear.ggml import large_m_int8_ir, small_m_int8_ir

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    triple = llvm.Target.from_triple("x86_64-unknown-linux-gnu")
    machine = triple.create_target_machine(cpu=cpu, opt=3)
    many = cpu == "sapphirerapids"
    for module in (large_m_int8_ir, small_m_int8_ir):
        code = machine.emit_assembly(
            optimised(
                lambda f, module=module: module.write(f, BlockType.Q5_0, many, has_vnni), machine
            )
        )
        found = {word for line in code.splitlines() for word in line.split()[:1]}
        assert product in code and not found & {"call", "callq"}


def test_bytes_are_multiplied_only_where_the_processor_can(monkeypatch):
    """Red: on another processor LLVM ends the process."""
    monkeypatch.setattr(builder, "host_has", lambda _: False)
    jit.multiplies_bytes.cache_clear()
    try:
        assert not jit.multiplies_bytes(BlockType.Q4_K)
    finally:
        jit.multiplies_bytes.cache_clear()
