"""What `GgmlWeight.has_int8_rows` asks for: x in eight bits, each 32 columns with a scale.

    scale = max |x| / 127,   code = x (127 / max |x|) to the nearest integer, halves to even

A quotient is a float32, the product is rounded once, to the integer: codes are the same on every
processor. An element is off by at most half a scale, a 254th of the largest of its 32, which is
what llama.cpp does to every row (its Q8_0; it has one scale for 256 columns before K-quants).
"""

import torch
from torch import Tensor

SPAN = 32  # columns that share a scale
LARGEST = 127
LEAST = 1e-30  # of a span's largest magnitude, or else it counts as zeros


def rounded(x: Tensor) -> Tensor:
    """`x` [M, I], I a multiple of SPAN, as its codes and scales say: float64."""
    codes, scales = quantize(x)
    return (codes.double() * scales.double()[..., None]).view(x.shape)


def quantize(x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes [M, I / SPAN, SPAN], whole numbers, and scales [M, I / SPAN], float32.

    What is not finite spoils its span.
    """
    spans = x.float().view(len(x), -1, SPAN)
    most = spans.abs().amax(dim=-1)
    largest = torch.full_like(most, LARGEST)  # torch divides a number by way of a reciprocal
    inverse = torch.where(most < LEAST, 0.0, largest / most)
    exact = spans.double() * inverse.double()[..., None]
    return exact.round().float(), most / largest
