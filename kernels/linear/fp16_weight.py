"""Matmuls of small M in float32 with weights rounded to float16: half the bytes of float32 to read.

A matmul of small M takes as long as reading its weights. FBGEMM's reads them as float16, multiplies
and adds in float32, and sums each result in one order whatever M is: what a row gives does not
depend on the rows beside it, bit by bit. Speculation rests on that, as do runs that are the same
whether tokens come one by one or a few at a time.

Whether the operation is there, right and batch-invariant is probed, not assumed. How fast it is, is
not probed: a choice by the clock would differ from run to run, and so would what a model generates.
`benchmarks.linear` shows the rates, and those of other matmuls.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kernels.jit import run
from kernels.linear import onednn

SMALL_M = 16  # from M = 64 on float32 is faster, measured on two cores with AVX2 and AVX-512
_LARGEST = 65_504.0  # of float16
_SMALLEST_RMS = 2.0**-13  # so that elements too small for float16 are lost below its rounding


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """A matrix [O, I] twice: `blocked` in float32 for large M, `fp16` in float16 for small M.

    For inference on a CPU; it can only be given to `linear`.
    """

    blocked: Tensor
    fp16: Any  # torch.ScriptObject: FBGEMM's own layout

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
    return PackedWeight(onednn.prepack(weight), _prepack_fp16(weight))


def linear(x: Tensor, weight: PackedWeight) -> Tensor:
    if x.shape[:-1].numel() > SMALL_M:
        return onednn.linear(x, weight.blocked)
    out: Tensor = torch.ops.quantized.linear_dynamic_fp16(x.float(), weight.fp16)
    return out.to(x.dtype)


@run.probed
def is_usable() -> Iterator[run.Check]:
    """Whether FBGEMM's matmul is there, right and batch-invariant."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(200, 576, generator=generator)  # no multiple of a tile
    rows = torch.randn(SMALL_M, 576, generator=generator)
    fp16 = _prepack_fp16(weight)
    got = torch.ops.quantized.linear_dynamic_fp16(rows, fp16)
    yield got, rows.double() @ weight.double().T, 2.0**-11
    alone = [torch.ops.quantized.linear_dynamic_fp16(row[None], fp16) for row in rows]
    yield got, torch.cat(alone), 0.0


def _prepack_fp16(weight: Tensor) -> Any:  # noqa: ANN401
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that such operations move elsewhere one day
        return torch.ops.quantized.linear_prepack_fp16(weight.detach().contiguous(), None)
