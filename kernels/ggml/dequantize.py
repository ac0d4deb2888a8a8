"""What a block says, in torch: w = scale code + offset, each scale for a group of 16 or 32 weights.

The order of operations is GGML's own, so that float32 results are the same bit by bit.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kernels.ggml.block_type import BlockType

# Scales [n, groups], codes [n, groups, group] and, where there are, offsets [n, groups].
Parts = tuple[Tensor, Tensor, Tensor | None]

IQ4_VALUES = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
MXFP4_VALUES = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)  # twice E2M1


def dequantize(kind: BlockType, blocks: Tensor, dtype: torch.dtype) -> Tensor:
    """`blocks` [n, bytes] uint8 as [n, elements], computed in `dtype`, float32 or float64."""
    scales, codes, offsets = _PARTS[kind](blocks, dtype)
    weights = codes.to(dtype).mul_(scales[..., None])
    if offsets is not None:
        weights.add_(offsets[..., None])
    return weights.flatten(1)


def _half(blocks: Tensor, start: int, dtype: torch.dtype) -> Tensor:
    """[n, 1]. A copy, because a float16 in a file may lie at an odd address."""
    return blocks[:, start : start + 2].clone().view(torch.float16).to(dtype)


def _shifted(packed: Tensor, shifts: Sequence[int], mask: int) -> Tensor:
    """`packed` [..., bytes] shifted right by each of `shifts`, and masked: [..., shifts, bytes]."""
    by = torch.tensor(shifts, dtype=torch.uint8, device=packed.device)
    return (packed[..., None, :] >> by[:, None]) & mask


def _nibbles(packed: Tensor) -> Tensor:
    """[n, bytes] -> [n, 1, 2 bytes], first the low halves of all bytes, then the high ones."""
    return _shifted(packed, (0, 4), 15).flatten(1)[:, None]


def _fifth_bits(packed: Tensor) -> Tensor:
    """Bit i of 4 bytes as 16 times it: [n, 4] -> [n, 1, 32]."""
    bits = _shifted(packed, range(8), 1).swapaxes(1, 2)
    return bits.flatten(1)[:, None] << 4


def _looked_up(codes: Tensor, values: Sequence[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int8, device=codes.device)[codes.int()]


def _q4_0(blocks: Tensor, dtype: torch.dtype) -> Parts:
    return _half(blocks, 0, dtype), _nibbles(blocks[:, 2:]).char() - 8, None


def _q4_1(blocks: Tensor, dtype: torch.dtype) -> Parts:
    return _half(blocks, 0, dtype), _nibbles(blocks[:, 4:]), _half(blocks, 2, dtype)


def _q5_0(blocks: Tensor, dtype: torch.dtype) -> Parts:
    codes = _nibbles(blocks[:, 6:]) | _fifth_bits(blocks[:, 2:6])
    return _half(blocks, 0, dtype), codes.char() - 16, None


def _q5_1(blocks: Tensor, dtype: torch.dtype) -> Parts:
    codes = _nibbles(blocks[:, 8:]) | _fifth_bits(blocks[:, 4:8])
    return _half(blocks, 0, dtype), codes, _half(blocks, 2, dtype)


def _q8_0(blocks: Tensor, dtype: torch.dtype) -> Parts:
    return _half(blocks, 0, dtype), blocks[:, None, 2:].view(torch.int8), None


def _q2_k(blocks: Tensor, dtype: torch.dtype) -> Parts:
    both, packed = blocks[:, :16], blocks[:, 16:80].reshape(-1, 2, 32)
    scales = _half(blocks, 80, dtype) * (both & 15)
    offsets = -_half(blocks, 82, dtype) * (both >> 4)
    return scales, _shifted(packed, (0, 2, 4, 6), 3).reshape(-1, 16, 16), offsets


def _q3_k(blocks: Tensor, dtype: torch.dtype) -> Parts:
    packed, high = blocks[:, 32:96].reshape(-1, 2, 32), blocks[:, :32]
    low_bits = _shifted(packed, (0, 2, 4, 6), 3).reshape(-1, 16, 16)
    high_bits = _shifted(high, range(8), 1).reshape(-1, 16, 16)
    low_scales = _shifted(blocks[:, 96:104], (0, 4), 15).flatten(1)
    high_scales = _shifted(blocks[:, 104:108], (0, 2, 4, 6), 3).flatten(1)
    scales = (low_scales | high_scales << 4).char() - 32
    return _half(blocks, 108, dtype) * scales, (low_bits | high_bits << 2).char() - 4, None


def _scales_and_offsets(blocks: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """[n, 8] each, of Q4_K and Q5_K: six bits each, the last four's upper two bits elsewhere."""
    first, second, rest = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = torch.cat([first & 63, (rest & 15) | (first >> 2 & 48)], dim=1)
    minima = torch.cat([second & 63, (rest >> 4) | (second >> 2 & 48)], dim=1)
    return _half(blocks, 0, dtype) * scales, -_half(blocks, 2, dtype) * minima


def _q4_k(blocks: Tensor, dtype: torch.dtype) -> Parts:
    scales, offsets = _scales_and_offsets(blocks, dtype)
    codes = _shifted(blocks[:, 16:].reshape(-1, 4, 32), (0, 4), 15)
    return scales, codes.reshape(-1, 8, 32), offsets


def _q5_k(blocks: Tensor, dtype: torch.dtype) -> Parts:
    scales, offsets = _scales_and_offsets(blocks, dtype)
    low = _shifted(blocks[:, 48:].reshape(-1, 4, 32), (0, 4), 15).reshape(-1, 8, 32)
    high = _shifted(blocks[:, 16:48], range(8), 1)
    return scales, low | high << 4, offsets


def _q6_k(blocks: Tensor, dtype: torch.dtype) -> Parts:
    low = _shifted(blocks[:, :128].reshape(-1, 2, 64), (0, 4), 15).reshape(-1, 16, 16)
    high = _shifted(blocks[:, 128:192].reshape(-1, 2, 32), (0, 2, 4, 6), 3).reshape(-1, 16, 16)
    scales = _half(blocks, 208, dtype) * blocks[:, 192:208].view(torch.int8)
    return scales, (low | high << 4).char() - 32, None


def _iq4_nl(blocks: Tensor, dtype: torch.dtype) -> Parts:
    return _half(blocks, 0, dtype), _looked_up(_nibbles(blocks[:, 2:]), IQ4_VALUES), None


def _iq4_xs(blocks: Tensor, dtype: torch.dtype) -> Parts:
    low = _shifted(blocks[:, 4:8], (0, 4), 15).swapaxes(1, 2).reshape(-1, 8)
    high = _shifted(blocks[:, 2:4], (0, 2, 4, 6), 3).swapaxes(1, 2).reshape(-1, 8)
    scales = _half(blocks, 0, dtype) * ((low | high << 4).char() - 32)
    codes = _shifted(blocks[:, 8:].reshape(-1, 8, 16), (0, 4), 15).reshape(-1, 8, 32)
    return scales, _looked_up(codes, IQ4_VALUES), None


def _mxfp4(blocks: Tensor, dtype: torch.dtype) -> Parts:
    """The scale is half of 2 to the power of a byte less 127: E8M0, without its NaN."""
    exponents = blocks[:, :1].int()
    bits = torch.where(exponents < 2, 0x200000 << exponents.clamp(max=1), (exponents - 1) << 23)
    codes = _looked_up(_nibbles(blocks[:, 1:]), MXFP4_VALUES)
    return bits.view(torch.float32).to(dtype), codes, None


_PARTS: dict[BlockType, Callable[[Tensor, torch.dtype], Parts]] = {
    BlockType.Q4_0: _q4_0,
    BlockType.Q4_1: _q4_1,
    BlockType.Q5_0: _q5_0,
    BlockType.Q5_1: _q5_1,
    BlockType.Q8_0: _q8_0,
    BlockType.Q2_K: _q2_k,
    BlockType.Q3_K: _q3_k,
    BlockType.Q4_K: _q4_k,
    BlockType.Q5_K: _q5_k,
    BlockType.Q6_K: _q6_k,
    BlockType.IQ4_NL: _iq4_nl,
    BlockType.IQ4_XS: _iq4_xs,
    BlockType.MXFP4: _mxfp4,
}
