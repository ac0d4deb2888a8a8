"""Red here means weights of people's GGUF files are read as other numbers than their own."""

import gguf
import numpy as np
import pytest
import torch
from gguf import quants
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels
from kernels import BlockType, GgmlWeight, Int8Weight, StackedWeight
from kernels.ggml.random import random_weight

TYPES = list(BlockType)
SEED = st.integers(0, 2**31)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def any_bytes(kind, *shape, blocks=3, seed=0):
    size = (*shape, blocks * kind.num_bytes)
    return torch.randint(0, 256, size, generator=generator(seed), dtype=torch.uint8)


@pytest.mark.parametrize("kind", TYPES)
def test_a_block_is_as_large_as_ggml_says(kind):
    sizes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind.value]]
    assert (kind.elements, kind.num_bytes) == sizes
    assert kind.row_bytes(3 * kind.elements) == 3 * kind.num_bytes
    for width in (0, kind.elements - 1, kind.elements + 16):
        with pytest.raises(ValueError, match=f"{kind}: {width} columns are no blocks"):
            kind.row_bytes(width)


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 4), blocks=st.integers(1, 5), seed=SEED)
def test_any_bytes_are_the_float32_ggml_makes_of_them(kind, rows, blocks, seed):
    packed = any_bytes(kind, rows, blocks=blocks, seed=seed)
    with np.errstate(all="ignore"):
        want = quants.dequantize(packed.numpy(), gguf.GGMLQuantizationType[kind.value])
    want = torch.from_numpy(want)
    got = GgmlWeight(kind, packed).dequantize()
    finite = want.isfinite()
    assert got.shape == want.shape
    assert torch.equal(got.isfinite(), finite)
    assert torch.equal(got[finite].view(torch.int32), want[finite].view(torch.int32))


@pytest.mark.parametrize("kind", TYPES)
def test_float64_has_no_rounding_to_hide(kind):
    weight = random_weight(kind, 5, 2 * kind.elements, generator())
    exact = weight.dequantize(torch.float64)
    assert exact.dtype == torch.float64
    assert torch.allclose(weight.dequantize().double(), exact, rtol=1e-5, atol=1e-8)
    assert torch.equal(weight.dequantize(torch.float16), weight.dequantize().half())
    if kind is BlockType.Q4_K:  # its scales and offsets need more bits than float32 has
        assert not torch.equal(weight.dequantize().double(), exact)


@pytest.mark.parametrize("kind", TYPES)
def test_a_weight_is_cut_and_viewed_as_its_rows(kind):
    packed = any_bytes(kind, 3, 4, blocks=2) & 0x3B  # no float16 of these is infinite
    weight = GgmlWeight(kind, packed)
    width = 2 * kind.elements
    assert weight.shape == (3, 4, width) and weight.num_bytes == 24 * kind.num_bytes
    plain = weight.dequantize()
    assert torch.equal(weight[1].dequantize(), plain[1])
    assert torch.equal(weight[1:].dequantize(), plain[1:])
    assert torch.equal(weight.view(12).dequantize(), plain.view(12, width))
    assert weight[2].packed.data_ptr() == packed[2].data_ptr()


def test_rows_that_are_no_blocks_are_refused():
    with pytest.raises(ValueError, match="Q4_0: 19 bytes a row, 18 a block"):
        GgmlWeight(BlockType.Q4_0, torch.zeros(2, 19, dtype=torch.uint8))


def stacked(width=256, leading=()):
    source = generator()
    parts = (
        random_weight(BlockType.Q4_K, 3, width, source),
        torch.randn(2, width, generator=source).bfloat16(),
        Int8Weight.quantize(torch.randn(4, width, generator=source)),
    )
    if not leading:
        return StackedWeight(parts)
    return StackedWeight(
        tuple(
            torch.stack([part] * leading) if isinstance(part, torch.Tensor) else part
            for part in (parts[1], parts[1].float())
        )
    )


def test_a_stack_is_its_parts_one_below_the_other():
    weight = stacked()
    plain = weight.dequantize(torch.float64)
    assert weight.shape == plain.shape == (9, 256)
    assert torch.equal(plain[3:5], weight.parts[1].double())
    assert torch.equal(plain[:3], weight.parts[0].dequantize(torch.float64))
    assert weight.num_bytes == 3 * 144 + 2 * 512 + 4 * (256 + 4)
    with pytest.raises(IndexError, match="from their parts"):
        weight[0]


def test_a_stack_of_experts_gives_each_expert_its_own():
    packed = any_bytes(BlockType.Q8_0, 3, 5, blocks=1) & 0x3B
    plain = torch.randn(3, 2, 32, generator=generator())
    weight = StackedWeight((GgmlWeight(BlockType.Q8_0, packed), plain))
    assert weight.shape == (3, 7, 32)
    for expert in range(3):
        assert torch.equal(weight[expert].dequantize(), weight.dequantize()[expert])
    assert torch.equal(weight.view(1, 3, 7).dequantize(), weight.dequantize()[None])


def test_what_does_not_fit_is_not_stacked():
    with pytest.raises(ValueError, match=r"shapes \[2, 32\], \[2, 64\] cannot be stacked"):
        StackedWeight((torch.zeros(2, 32), torch.zeros(2, 64)))
    with pytest.raises(ValueError, match="none cannot be stacked"):
        StackedWeight(())


@pytest.mark.parametrize("kind", TYPES)
def test_an_embedding_is_the_rows_asked_for(kind):
    weight = random_weight(kind, 7, 2 * kind.elements, generator())
    ids = torch.tensor([[6, 0, 3], [3, 3, 1]])
    got = kernels.embedding(ids, weight)
    assert got.dtype == torch.float32
    assert torch.equal(got, weight.dequantize()[ids])


def test_an_embedding_of_plain_rows_is_float32():
    weight = torch.randn(5, 8, generator=generator()).bfloat16()
    got = kernels.embedding(torch.tensor([4, 0]), weight)
    assert torch.equal(got, weight[[4, 0]].float()) and got.dtype == torch.float32
