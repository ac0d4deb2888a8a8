"""Writes checkpoints: safetensors shards and their index, every tensor a slice of rows at a time.

What is quantised is quantised on the way, and measured against what it was.
"""

import hashlib
import json
import math
import os
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from engine.checkpoint import DTYPES, INDEX, SINGLE
from engine.errors import CheckpointError, EngineError
from engine.files import write_json
from engine.quantized.forms import ITEM_BYTES, Form, Part
from kernels import Int4Weight, Int8Weight
from kernels.quantized import IntWeight

SHARD_BYTES = 5_000_000_000
SLICE_ELEMENTS = 2**22  # 16 MiB of float32; quantising takes a few times that

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Slice:
    """Some rows of a tensor, and the same rows in few bits where they come so."""

    values: Tensor
    weight: IntWeight | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor to write: in `form`, or plain in `dtype` (safetensors' name); its slices in order,
    read when asked for."""

    name: str
    shape: tuple[int, ...]
    form: Form
    dtype: str
    slices: Callable[[], Iterator[Slice]]

    @property
    def tensors(self) -> list[Part]:
        """Name, dtype and shape of what is written for it."""
        if self.form is Form.PLAIN:
            return [(self.name, self.dtype, self.shape)]
        parts = self.form.parts(*self.shape)
        return [(f"{self.name}.{suffix}", dtype, shape) for suffix, dtype, shape in parts]

    @property
    def num_bytes(self) -> int:
        return sum(_num_bytes(part) for part in self.tensors)


@dataclass(slots=True)
class TensorError:
    """What rounding did to one tensor: sums of squares, of the difference and of the weights."""

    name: str
    form: Form
    difference: float = 0.0
    weights: float = 0.0

    @property
    def relative_rms(self) -> float:
        return math.sqrt(self.difference / self.weights) if self.weights else 0.0


@dataclass(slots=True)
class Written:
    """sha256 of each shard, bytes of all tensors, and what became of those that were quantised."""

    num_bytes: int = 0
    sha256: dict[str, str] = field(default_factory=dict)
    errors: list[TensorError] = field(default_factory=list)

    @property
    def relative_rms(self) -> float:
        """Over all quantised tensors together."""
        weights = sum(error.weights for error in self.errors)
        return math.sqrt(sum(e.difference for e in self.errors) / weights) if weights else 0.0

    @property
    def worst_first(self) -> list[TensorError]:
        return sorted(self.errors, key=lambda error: (-error.relative_rms, error.name))


def check_room(folder: Path, outputs: Sequence[Output]) -> None:
    """Raises EngineError if the disk of `folder` has no room for `outputs`."""
    needed, free = sum(output.num_bytes for output in outputs), shutil.disk_usage(folder).free
    if needed > free:
        raise EngineError(
            f"the weights take {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free in {folder}; "
            "free some, or write to another disk"
        )


def write(
    folder: Path,
    outputs: Sequence[Output],
    on_progress: OnProgress = lambda _done, _total: None,
    shard_bytes: int = SHARD_BYTES,
) -> Written:
    """Writes `outputs` in their order, in shards of at most `shard_bytes` (or of one output).

    One shard is model.safetensors; more have an index. `on_progress` gets bytes written and in
    all. Raises CheckpointError if a weight is not finite or too large for its form.
    """
    shards: list[list[Output]] = [[]]
    used = 0
    for output in outputs:
        if used and used + output.num_bytes > shard_bytes:
            shards.append([])
            used = 0
        shards[-1].append(output)
        used += output.num_bytes
    total = sum(output.num_bytes for output in outputs)
    written = Written()
    index: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = SINGLE
        if len(shards) > 1:
            name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        index |= {tensor: name for output in shard for tensor, _, _ in output.tensors}
        with (folder / name).open("xb") as file:
            writer = _Writer(file, written, lambda done: on_progress(done, total))
            writer.write(shard)
            file.flush()
            os.fsync(file.fileno())
        written.sha256[name] = writer.sha256.hexdigest()
    if len(shards) > 1:
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": index})
    return written


class _Writer:
    def __init__(self, file: BinaryIO, written: Written, note: Callable[[int], None]) -> None:
        self._file, self._written, self._note = file, written, note
        self.sha256 = hashlib.sha256()

    def write(self, outputs: Sequence[Output]) -> None:
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for part in (part for output in outputs for part in output.tensors):
            start, end = end, end + _num_bytes(part)
            name, dtype, shape = part
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
        encoded = json.dumps(header, separators=(",", ":")).encode()
        encoded += b" " * (-len(encoded) % 8)
        self._put(struct.pack("<Q", len(encoded)) + encoded)
        for output in outputs:
            if output.form is Form.PLAIN:
                for rows in output.slices():
                    self._put_tensor(rows.values.to(DTYPES[output.dtype]))
            else:
                self._put_quantized(output)

    def _put_quantized(self, output: Output) -> None:
        """Codes as they come; scales, and offsets if there are any, behind them."""
        error = TensorError(output.name, output.form)
        self._written.errors.append(error)
        behind: list[tuple[Tensor, ...]] = []
        for rows in output.slices():
            weight = rows.weight or _quantized(rows.values, output)
            codes, *others = _parts(weight)
            behind.append(tuple(others))
            self._put_tensor(codes)
            want = rows.values.float()
            error.difference += _square_sum(weight.dequantize() - want)
            error.weights += _square_sum(want)
        for parts in zip(*behind, strict=True):
            self._put_tensor(torch.cat(parts))

    def _put_tensor(self, tensor: Tensor) -> None:
        self._put(tensor.contiguous().view(torch.uint8).numpy().data)
        self._written.num_bytes += tensor.nbytes
        self._note(self._written.num_bytes)

    def _put(self, content: bytes | memoryview) -> None:
        self._file.write(content)
        self.sha256.update(content)


def _quantized(values: Tensor, output: Output) -> IntWeight:
    if not values.isfinite().all():
        raise CheckpointError(f"{output.name} holds values that are not finite")
    if output.form is Form.INT8:
        return Int8Weight.quantize(values)
    try:
        return Int4Weight.quantize(values, output.form.group, search=True)
    except ValueError as error:
        raise CheckpointError(f"{output.name}: {error}") from None


def _parts(weight: IntWeight) -> tuple[Tensor, ...]:
    """In the order of `Form.parts`."""
    if isinstance(weight, Int8Weight):
        return weight.codes, weight.scales
    return weight.packed, weight.scales, weight.offsets


def _square_sum(values: Tensor) -> float:
    return values.square().sum(dtype=torch.float64).item()


def _num_bytes(part: Part) -> int:
    _, dtype, shape = part
    return ITEM_BYTES[dtype] * math.prod(shape)
