"""Keys or values in int8, with one scale per token and head."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Int8Tensor:
    """`values` [n, G, D] int8 times `scales` [n, G] float32: a half to a quarter of the bytes."""

    values: Tensor
    scales: Tensor

    @classmethod
    def quantize(cls, rows: Tensor) -> "Int8Tensor":
        """The nearest int8 rows to `rows` [n, G, D]: off by at most half a scale, a scale being a
        row's largest magnitude over 127. -128 is not used."""
        rows = rows.float()
        # A row of zeros has a scale too, or it would become 0 / 0.
        tiny = torch.finfo(torch.float32).tiny
        scales = (rows.abs().amax(dim=-1) / 127).clamp(min=tiny)
        return cls((rows / scales[..., None]).round().clamp(-127, 127).to(torch.int8), scales)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """[n, G, D] in `dtype`; the product is rounded once."""
        product = self.values.to(torch.promote_types(dtype, torch.float32))
        # In place: a second array of this size costs a CPU more than the product.
        return product.mul_(self.scales[..., None]).to(dtype)

    def __getitem__(self, tokens: slice) -> "Int8Tensor":
        return Int8Tensor(self.values[tokens], self.scales[tokens])

    @property
    def shape(self) -> torch.Size:
        return self.values.shape

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + self.scales.nbytes


Rows = Tensor | Int8Tensor
Segments = Sequence[tuple[Rows, Rows]]  # keys and values [n, G, D] each
Parts = Sequence[tuple[Tensor, Segments]]  # queries [T, H, D] with keys and values of their own


def dense(rows: Rows, dtype: torch.dtype) -> Tensor:
    """`rows` as a tensor: what is quantised in `dtype`, what is not as it is."""
    return rows.dequantize(dtype) if isinstance(rows, Int8Tensor) else rows


def between(segments: Segments, start: int, end: int) -> list[tuple[Rows, Rows]]:
    """Rows start .. end - 1 of `segments`, as views."""
    found, offset = [], 0
    for keys, values in segments:
        first, last = max(start - offset, 0), min(end - offset, keys.shape[0])
        if first < last:
            found.append((keys[first:last], values[first:last]))
        offset += keys.shape[0]
    return found
