"""Weights in eight or four bits, with the scales that dequantise them; kernels/ggml/ has others.

int8: one scale per row (one output), symmetric, so that a matmul is scaled once, after its sum.

int4: groups of 32, 64 or 128 along a row, each with a scale and an offset, w = scale code + offset.
The offset costs two bytes per group (0.13 to 0.5 bits a weight) and buys two things: all sixteen
codes are used whatever a group's range is (on normal weights 8 % less error than symmetric groups
of as many bits), and the 4-bit formats people already have (GGUF's Q4_0, Q4_1 and the groups of
Q4_K) are of this form, so they need no second rounding.
"""

from dataclasses import dataclass
from typing import Self, TypeAlias

import torch
from torch import Tensor

from kernels.ggml import GgmlWeight

GROUPS = (32, 64, 128)

_LARGEST_INT8 = 127  # -128 stays unused: a code and its negative are both there
_LARGEST_INT4 = 15
_SHRUNK_RANGES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)  # of a group's range, tried by the search


@dataclass(frozen=True, slots=True)
class Int8Weight:
    """`codes` [..., O, I] int8 and `scales` [..., O] float32: w = scale code."""

    codes: Tensor
    scales: Tensor

    @classmethod
    def quantize(cls, weight: Tensor) -> Self:
        """Nearest codes for `weight` [..., O, I]; each row's largest magnitude becomes +-127.

        An element is off by at most half a scale, a 254th of its row's largest magnitude. Takes
        float32 copies of `weight`.
        """
        weight = weight.detach().float()
        scales = weight.abs().amax(dim=-1) / _LARGEST_INT8
        codes = torch.where(scales[..., None] > 0, weight / scales[..., None], 0).round()
        return cls(codes.clamp(-_LARGEST_INT8, _LARGEST_INT8).to(torch.int8), scales)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """[..., O, I]; exact in float64."""
        precise = _precise(dtype)
        return (self.codes.to(precise) * self.scales.to(precise)[..., None]).to(dtype)

    @property
    def shape(self) -> torch.Size:
        """[..., O, I], that of the weight."""
        return self.codes.shape

    @property
    def num_bytes(self) -> int:
        return self.codes.nbytes + self.scales.nbytes

    def __getitem__(self, index: int | slice) -> Self:
        """Some of the first axis: one expert, or some rows. Shares memory."""
        return type(self)(self.codes[index], self.scales[index])

    def view(self, *leading: int) -> Self:
        """The same rows under other leading axes: [*leading, I]. Shares memory."""
        return type(self)(self.codes.view(*leading, -1), self.scales.view(leading))

    def to(self, device: torch.device) -> Self:
        return type(self)(self.codes.to(device), self.scales.to(device))


@dataclass(frozen=True, slots=True)
class Int4Weight:
    """Codes 0 to 15, two per byte; `scales` and `offsets` [..., O, I / group] float16.

    `packed` [..., O, I / 2] uint8: byte j of a group's group / 2 bytes has code j in its low four
    bits and code j + group / 2 in its high ones, so either half of a byte tile is a run of
    neighbouring columns and nothing need be interleaved. For groups of 32 it is GGUF's order.
    """

    packed: Tensor
    scales: Tensor
    offsets: Tensor

    @classmethod
    def quantize(cls, weight: Tensor, group: int = 64, *, search: bool = False) -> Self:
        """Nearest codes for `weight` [..., O, I]; each group's range becomes 0 to 15.

        An element is off by at most half its group's scale, which is a 15th of the range (and half
        of float16's rounding of range and offset). With `search` the range is narrowed where that
        lowers the group's mean squared error: outliers lose more than that bound, most elements
        win. Raises ValueError if `group` is not one of GROUPS or does not divide I, or if a weight
        is beyond float16.
        """
        width = weight.shape[-1]
        if group not in GROUPS:
            raise ValueError(f"int4: groups of {group}; there are {GROUPS}")
        if width % group:
            raise ValueError(f"int4: {width} columns do not divide into groups of {group}")
        if not bool(weight.abs().amax() <= torch.finfo(torch.float16).max):
            raise ValueError("int4: a weight is not finite or beyond float16")
        grouped = _grouped(weight.detach().float(), group)  # [..., O, I / group, group]
        scales, offsets = _ranges(grouped, 1.0)
        if search:
            best = _squared_error(grouped, scales, offsets)
            for share in _SHRUNK_RANGES[1:]:
                narrow = _ranges(grouped, share)
                error = _squared_error(grouped, *narrow)
                better = error < best
                best = torch.where(better, error, best)
                scales = torch.where(better, narrow[0], scales)
                offsets = torch.where(better, narrow[1], offsets)
        low, high = _codes(grouped, scales, offsets).to(torch.uint8).chunk(2, dim=-1)
        return cls((low | high << 4).flatten(-2), scales, offsets)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """[..., O, I]; exact in float64."""
        half = self.group // 2
        halves = _grouped(self.packed, half)  # [..., O, I / group, group / 2]
        scales, offsets = (x[..., None].to(_precise(dtype)) for x in (self.scales, self.offsets))
        restored = scales.new_empty(*self.scales.shape, self.group)
        torch.mul(halves & 15, scales, out=restored[..., :half])
        torch.mul(halves >> 4, scales, out=restored[..., half:])
        return restored.add_(offsets).flatten(-2).to(dtype)

    @property
    def group(self) -> int:
        return 2 * self.packed.shape[-1] // self.scales.shape[-1]

    @property
    def shape(self) -> torch.Size:
        """[..., O, I], that of the weight."""
        return torch.Size([*self.packed.shape[:-1], 2 * self.packed.shape[-1]])

    @property
    def num_bytes(self) -> int:
        return self.packed.nbytes + self.scales.nbytes + self.offsets.nbytes

    def __getitem__(self, index: int | slice) -> Self:
        """Some of the first axis: one expert, or some rows. Shares memory."""
        return type(self)(self.packed[index], self.scales[index], self.offsets[index])

    def view(self, *leading: int) -> Self:
        """The same rows under other leading axes: [*leading, I]. Shares memory."""
        parts = (self.packed, self.scales, self.offsets)
        return type(self)(*(part.view(*leading, -1) for part in parts))

    def to(self, device: torch.device) -> Self:
        return type(self)(self.packed.to(device), self.scales.to(device), self.offsets.to(device))


@dataclass(frozen=True, slots=True, weakref_slot=True)
class StackedWeight:
    """Weights [..., O, I] of one I whose outputs stand one below the other: q, k and v of a layer.

    `linear` reads x once for all. They may differ in kind and, if plain, in dtype.
    Raises ValueError if there are none, or their leading axes or I differ.
    """

    parts: tuple["Weight", ...]

    def __post_init__(self) -> None:
        if len({(*part.shape[:-2], part.shape[-1]) for part in self.parts}) != 1:
            shapes = ", ".join(str(list(part.shape)) for part in self.parts)
            raise ValueError(f"weights of shapes {shapes or 'none'} cannot be stacked")

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """[..., O, I]; exact in float64."""
        return torch.cat([dequantized(part, dtype) for part in self.parts], dim=-2)

    @property
    def shape(self) -> torch.Size:
        """[..., O, I], O of all parts together."""
        *leading, _, width = self.parts[0].shape
        return torch.Size([*leading, sum(part.shape[-2] for part in self.parts), width])

    @property
    def num_bytes(self) -> int:
        return sum(p.nbytes if isinstance(p, Tensor) else p.num_bytes for p in self.parts)

    def __getitem__(self, index: int | slice) -> Self:
        """Some of the first axis of weights that have leading ones: one expert. Shares memory."""
        if len(self.shape) < 3:
            raise IndexError("rows of stacked weights are taken from their parts")
        return type(self)(tuple(part[index] for part in self.parts))

    def view(self, *leading: int) -> Self:
        """Under other axes before O, of which each part keeps its own. Shares memory."""
        return type(self)(tuple(_viewed(part, *leading[:-1]) for part in self.parts))

    def to(self, device: torch.device) -> Self:
        return type(self)(tuple(part.to(device) for part in self.parts))


IntWeight: TypeAlias = Int8Weight | Int4Weight
BlockWeight: TypeAlias = GgmlWeight | StackedWeight
QuantizedWeight: TypeAlias = IntWeight | BlockWeight
Weight: TypeAlias = Tensor | QuantizedWeight


def dequantized(weight: Weight, dtype: torch.dtype) -> Tensor:
    """`weight` as a plain tensor of `dtype`."""
    return weight.to(dtype) if isinstance(weight, Tensor) else weight.dequantize(dtype)


def _viewed(weight: Weight, *leading: int) -> Weight:
    num_out, width = weight.shape[-2:]
    if isinstance(weight, Tensor):
        return weight.view(*leading, num_out, width)
    return weight.view(*leading, num_out)


def _grouped(x: Tensor, group: int) -> Tensor:
    return x.reshape(*x.shape[:-1], -1, group)


def _precise(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _ranges(grouped: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Scales and offsets whose codes 0 to 15 span `share` of each group's range, or a hair more.

    Both are rounded outwards to float16, so that no element falls outside the range.
    """
    low, high = grouped.amin(dim=-1), grouped.amax(dim=-1)
    cut = (1 - share) / 2 * (high - low)
    offsets = _rounded(low + cut, up=False)
    return _rounded((high - cut - offsets.float()) / _LARGEST_INT4, up=True), offsets


def _rounded(x: Tensor, *, up: bool) -> Tensor:
    """`x` in float16, never below it (`up`) or never above it."""
    nearest = x.half()
    wrong = nearest.float() < x if up else nearest.float() > x
    outwards = torch.where(nearest.signbit(), -1, 1) * (1 if up else -1)
    # One step in a float's bits, sign aside, is one step in its value.
    bits = nearest.view(torch.int16) + torch.where(wrong, outwards, 0).to(torch.int16)
    return bits.view(torch.float16)


def _codes(grouped: Tensor, scales: Tensor, offsets: Tensor) -> Tensor:
    scales, distances = scales.float()[..., None], grouped - offsets.float()[..., None]
    codes = torch.where(scales > 0, distances / scales, 0).round()
    return codes.clamp(0, _LARGEST_INT4)


def _squared_error(grouped: Tensor, scales: Tensor, offsets: Tensor) -> Tensor:
    codes = _codes(grouped, scales, offsets)
    restored = torch.addcmul(offsets.float()[..., None], codes, scales.float()[..., None])
    return (restored - grouped).square().sum(dim=-1)
