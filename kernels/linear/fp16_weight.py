"""Matmuls of small M in float32 with weights rounded to float16: half the bytes of float32 to read.

A matmul of small M takes as long as reading its weights. narrow.py reads them as float16,
multiplies and adds in float32, and sums each result in one order whatever M is: what a row gives
does not depend on the rows beside it, bit by bit. Speculation rests on that, as do runs that are
the same whether tokens come one by one or a few at a time. Large M goes by a copy in float32.

How fast it is, is not probed: a choice by the clock would differ from run to run, and so would what
a model generates. `benchmarks.linear` shows the rates, and those of other matmuls.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.linear import narrow, onednn

SMALL_M = 16  # from M = 64 on float32 is faster, measured on two cores with AVX2 and AVX-512
_LARGEST = 65_504.0  # of float16
_SMALLEST_RMS = 2.0**-13  # so that elements too small for float16 are lost below its rounding


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """A matrix [O, I] twice: `blocked` in float32 for large M, `fp16` in float16 for small M.

    For inference on a CPU; it can only be given to `linear`.
    """

    blocked: Tensor
    fp16: Tensor  # [O, I]

    @property
    def shape(self) -> torch.Size:
        return self.blocked.shape

    @property
    def num_bytes(self) -> int:
        return self.blocked.shape.numel() * (4 + 2)


def can_be_fp16(weight: Tensor) -> bool:
    """Whether `weight` keeps what it is in float16, and this machine has the matmul."""
    if not (onednn.can_prepack(weight) and is_usable()):
        return False
    norm = float(torch.linalg.vector_norm(weight.detach()))
    rms = norm / weight.numel() ** 0.5
    return rms >= _SMALLEST_RMS and norm <= _LARGEST


def prepack(weight: Tensor) -> PackedWeight:
    """Of a `weight` that `can_be_fp16`."""
    return PackedWeight(onednn.prepack(weight), weight.detach().half().contiguous())


def linear(x: Tensor, weight: PackedWeight) -> Tensor:
    num_rows = x.shape[:-1].numel()
    if num_rows > SMALL_M:
        return onednn.linear(x, weight.blocked)
    rows = x.reshape(num_rows, -1).float()
    return narrow.linear(rows, weight.fp16).view(*x.shape[:-1], -1).to(x.dtype)


def is_usable() -> bool:
    return narrow.is_usable(torch.float16)
