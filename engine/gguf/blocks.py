"""Rows of a GGUF tensor as numbers and, where its blocks are of that form, as an Int4Weight.

Q4_0 and Q4_1 are int4 in groups of 32 with not a bit changed; of Q4_K the codes stay and scale and
offset of a group, each a product there, are rounded to float16. Other kinds are dequantised.
"""

from collections.abc import Iterator
from typing import Final

import gguf.quants
import numpy as np
import numpy.typing as npt
import torch
from gguf.constants import GGMLQuantizationType as Kind

from engine.errors import GgufError
from engine.gguf.file import PLAIN_KINDS, Bytes
from engine.gguf.source import Order, Source
from engine.quantized.forms import Form
from engine.quantized.writer import SLICE_ELEMENTS, Slice
from kernels import Int4Weight

PLAIN: Final = {kind: kind.name for kind in PLAIN_KINDS}  # names are safetensors' too

_GROUP = 32
Halves = npt.NDArray[np.float16]


def nearest(kind: Kind, width: int) -> Form:
    """The form that loses least of what is stored as `kind`: none, or a second rounding to int8."""
    if kind in PLAIN:
        return Form.PLAIN
    return Form.INT4_32 if kind in _FOUR_BIT and not width % _GROUP else Form.INT8


def slices(source: Source, form: Form) -> Iterator[Slice]:
    """The rows of `source` in order, as float32; a slice of them in memory at a time.

    Raises GgufError if a value is not finite.
    """
    tensor, packed, order = source.tensor, source.rows(), source.column_order
    num_rows = max(1, SLICE_ELEMENTS // tensor.shape[-1])
    for start in range(0, len(packed), num_rows):
        part = np.ascontiguousarray(packed[start : start + num_rows])
        values = torch.from_numpy(_values(part, source))
        if len(tensor.shape) == 1:
            values = values.flatten()
        is_same = form is Form.INT4_32 and tensor.kind in _FOUR_BIT
        weight = _int4(part, tensor.kind) if is_same else None
        if order is not None:
            values, weight = values[:, order], weight and _ordered(weight, order)
        yield Slice(values, weight)


def _values(part: Bytes, source: Source) -> npt.NDArray[np.float32]:
    with np.errstate(all="ignore"):
        values = gguf.quants.dequantize(part, source.tensor.kind)
    if not np.isfinite(values).all():
        raise GgufError(f"{source.name} holds values that are not finite")
    if source.holds_decay:
        if not (values < 0).all():
            raise GgufError(f"{source.name} holds values of -exp(x) that are not below 0")
        values = np.log(-values)
    # A copy: plain float32 rows are a view of the file, which nobody may write to.
    return np.array(values + source.shift if source.shift else values, dtype=np.float32)


def _int4(part: Bytes, kind: Kind) -> Int4Weight | None:
    """The same weights, or None if a scale or an offset is beyond float16."""
    with np.errstate(over="ignore"):
        packed, scales, offsets = _FOUR_BIT[kind](part)
    if not (np.isfinite(scales).all() and np.isfinite(offsets).all()):
        return None
    rows = len(part)
    parts = (packed.reshape(rows, -1), scales.reshape(rows, -1), offsets.reshape(rows, -1))
    return Int4Weight(*(torch.from_numpy(np.ascontiguousarray(x)) for x in parts))


def _ordered(weight: Int4Weight, order: Order) -> Int4Weight | None:
    """With the columns in that order; None if it takes groups apart."""
    if len(order) % _GROUP:
        return None
    groups = order.reshape(-1, _GROUP)
    if (groups != groups[:, :1] + np.arange(_GROUP)).any() or (groups[:, 0] % _GROUP).any():
        return None
    wanted = torch.from_numpy(groups[:, 0] // _GROUP)
    packed = weight.packed.view(len(weight.packed), -1, _GROUP // 2)[:, wanted].flatten(1)
    return Int4Weight(packed, weight.scales[:, wanted], weight.offsets[:, wanted])


def _q4_0(part: Bytes) -> tuple[Bytes, Halves, Halves]:
    """w = d (code - 8): a float16 d, 16 bytes of codes."""
    blocks = part.reshape(-1, 18)
    scales = blocks[:, :2].copy().view(np.float16)
    return blocks[:, 2:], scales, scales * np.float16(-8)


def _q4_1(part: Bytes) -> tuple[Bytes, Halves, Halves]:
    """w = d code + m: float16 d and m, 16 bytes of codes."""
    blocks = part.reshape(-1, 20)
    halves = blocks[:, :4].copy().view(np.float16)
    return blocks[:, 4:], halves[:, :1], halves[:, 1:]


def _q4_k(part: Bytes) -> tuple[Bytes, Halves, Halves]:
    """w = d s code - dmin m in eight groups: float16 d and dmin, 12 bytes of six-bit s and m, and
    four times 32 bytes, each with the codes of a group in the low bits, of the next in the high."""
    blocks = part.reshape(-1, 144)
    halves = blocks[:, :4].copy().view(np.float16).astype(np.float32)  # [n, 2]
    factors, minima = gguf.quants.Q4_K.get_scale_min(blocks[:, 4:16].copy())  # [n, 8] each
    scales = (halves[:, :1] * factors).astype(np.float16)
    offsets = (-halves[:, 1:] * minima).astype(np.float16)
    pairs = blocks[:, 16:].reshape(-1, 4, 1, _GROUP)
    codes = np.concatenate([pairs & 15, pairs >> 4], axis=2).reshape(-1, 8, 2, _GROUP // 2)
    return codes[:, :, 0] | codes[:, :, 1] << 4, scales, offsets


_FOUR_BIT: Final = {Kind.Q4_0: _q4_0, Kind.Q4_1: _q4_1, Kind.Q4_K: _q4_k}
