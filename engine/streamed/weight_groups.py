"""A model's layers in parts that are read when they are needed: the dense part, and each expert.

The dense part (norms, mixer, router, shared or dense MLP) is kept as
`Model.prepare_for_inference` leaves it. An expert is kept as the checkpoint has it where that is
narrower than the matmuls' dtype, because twice as many fit; matmuls upcast it block by block. What
the checkpoint has in int8 or int4 stays so in either.
"""

import mmap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

import kernels
from engine.checkpoint import DTYPES, STORED_DTYPES, Checkpoint
from engine.config import ModelConfig
from engine.families import family_named
from engine.model import Layer
from engine.placement.weight_bytes import (
    ALIGNMENT,
    PAGE_BYTES,
    LayerParts,
    ModelParts,
    is_large,
    pooled_bytes,
)
from engine.quantized.forms import Form, is_matrix
from engine.streamed.direct_io import DirectReader
from engine.weights import TensorPiece, add_norm_offset, build_weight, keep_in_fp32, tensor_pieces
from kernels.quantized import Weight

DENSE = -1


class GroupKey(NamedTuple):
    """A part: an expert of a layer, or its dense part."""

    layer: int
    expert: int = DENSE


@dataclass(slots=True)
class WeightGroup:
    """Weights by the names they have in the layer, without the axis of experts.

    `buffer` is memory that can hold another part of the same size once nobody uses this one.
    """

    weights: Mapping[str, Weight]
    buffer: Tensor | None = None
    _used: torch.cuda.Event | None = None

    def note_use(self) -> None:
        """Called when the last matmul with these weights has been started."""
        tensors = [getattr(weight, "scales", weight) for weight in self.weights.values()]
        if any(isinstance(x, Tensor) and x.is_cuda for x in tensors):
            self._used = torch.cuda.current_stream().record_event()

    def wait(self) -> None:
        """Returns when all matmuls with these weights are done."""
        if self._used is not None:
            self._used.synchronize()


class Reader(Protocol):
    """What a pool needs to know of parts."""

    def num_bytes(self, key: GroupKey) -> int:
        """What the part takes in memory."""

    def read_bytes(self, key: GroupKey) -> int:
        """What is read from disk for it."""

    def read(self, key: GroupKey, dropped: list[WeightGroup]) -> WeightGroup:
        """The part, perhaps in the memory of a dropped one. Called by one thread at a time.

        Empties `dropped`, and before it takes memory, so that theirs is free by then.
        """


class _Matrix(NamedTuple):
    """One weight of one part: its name in the layer, and what it is read as."""

    name: str
    form: Form
    pieces: tuple[TensorPiece, ...]


class WeightGroups:
    """The parts of all layers of `checkpoint`, which `weights.meta_model` has accepted.

    `layers` are on the meta device. On a GPU what is read passes through pinned memory and a stream
    of its own, so that copies run beside matmuls.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: ModelConfig,
        layers: Sequence[Layer],
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._checkpoint, self._shards = checkpoint, DirectReader(checkpoint)
        self._device, self._dtype, self._num_experts = device, dtype, config.num_experts
        self._sources = family_named(config.family).sources(config)
        self._staging = _Staging(device)
        self._wide = torch.empty(0, dtype=torch.uint8)
        self._quantization, self._norm_offset = config.quantization, config.norm_offset
        self._matrices: dict[GroupKey, list[_Matrix]] = {}
        for index, layer in enumerate(layers):
            for name, parameter in layer.named_parameters():
                self._add(index, name, is_stack=parameter.dim() == 3)

    def _add(self, layer: int, name: str, *, is_stack: bool) -> None:
        path = f"layers.{layer}.{name}"
        sources, form = self._sources[path], self._quantization.form_of(path)
        if not (self._num_experts and is_stack):
            pieces = tensor_pieces(self._checkpoint, sources, form, self._dtype_of(name))
            self._matrices.setdefault(GroupKey(layer), []).append(_Matrix(name, form, pieces))
            return
        each = len(sources) // self._num_experts
        for expert in range(self._num_experts):
            own = sources[expert * each : (expert + 1) * each]
            kept = self._kept(own) if form is Form.PLAIN else self._dtype
            pieces = tensor_pieces(self._checkpoint, own, form, kept)
            self._matrices.setdefault(GroupKey(layer, expert), []).append(
                _Matrix(name, form, pieces)
            )

    def _kept(self, sources: tuple[str, ...]) -> torch.dtype:
        stored = {DTYPES[self._checkpoint.info(source).dtype] for source in sources}
        narrow = len(stored) == 1 and min(x.itemsize for x in stored) < self._dtype.itemsize
        return stored.pop() if narrow else self._dtype

    def _pieces(self, key: GroupKey) -> Iterator[TensorPiece]:
        return (piece for matrix in self._matrices[key] for piece in matrix.pieces)

    def num_bytes(self, key: GroupKey) -> int:
        sizes = (piece.num_bytes for piece in self._pieces(key))
        return sum(sizes) if key.expert == DENSE else sum(map(pooled_bytes, sizes))

    def read_bytes(self, key: GroupKey) -> int:
        return sum(
            self._shards.num_bytes(name) for piece in self._pieces(key) for name in piece.names
        )

    @property
    def sizes(self) -> ModelParts:
        """What the parts of each layer take in memory."""
        layers = (key.layer for key in self._matrices if key.expert == DENSE)
        return ModelParts(0, tuple(map(self._sizes_of, layers)))

    def _sizes_of(self, layer: int) -> LayerParts:
        dense_bytes, first = self.num_bytes(GroupKey(layer)), GroupKey(layer, 0)
        if first not in self._matrices:
            return LayerParts(dense_bytes, 0, 0)
        return LayerParts(dense_bytes, self.num_bytes(first), self._num_experts)

    def read(self, key: GroupKey, dropped: list[WeightGroup]) -> WeightGroup:
        """On the device when it returns. Raises CheckpointError if a file can no longer be read."""
        spare = None
        while dropped:
            part = dropped.pop()
            part.wait()
            if part.buffer is not None and part.buffer.nbytes == self.num_bytes(key):
                spare = part.buffer
            del part
        with torch.no_grad(), self._staging.reading():
            if key.expert != DENSE:
                return self._expert(key, spare)
            return WeightGroup({matrix.name: self._dense(matrix) for matrix in self._matrices[key]})

    def weight(self, key: GroupKey, name: str) -> Tensor:
        """One plain weight of a part, apart from it, as it is before it is packed."""
        return self._apart(next(m for m in self._matrices[key] if m.name == name))

    def shared(self, name: str) -> Tensor:
        """A weight of the model that belongs to no layer."""
        sources, dtype = self._sources[name], self._dtype_of(name)
        pieces = tensor_pieces(self._checkpoint, sources, Form.PLAIN, dtype)
        weight = self._apart(_Matrix(name, Form.PLAIN, pieces))
        self._staging.clear()  # an embedding is much larger than what is staged from now on
        return weight

    def _apart(self, matrix: _Matrix) -> Tensor:
        with torch.no_grad(), self._staging.reading():
            weight = self._filled(matrix, self._empty(matrix))
        assert isinstance(weight, Tensor), matrix.name
        return weight

    def _dtype_of(self, name: str) -> torch.dtype:
        return torch.float32 if keep_in_fp32(name) else self._dtype

    def _empty(self, matrix: _Matrix) -> list[Tensor]:
        return [
            torch.empty(piece.shape, dtype=piece.dtype, device=self._device)
            for piece in matrix.pieces
        ]

    def _dense(self, matrix: _Matrix) -> Weight:
        if not self._is_packed(matrix):
            return self._filled(matrix, self._empty(matrix))
        (piece,) = matrix.pieces
        if len(self._wide) < piece.num_bytes:
            self._wide = torch.empty(0, dtype=torch.uint8)
            self._wide = torch.empty(piece.num_bytes, dtype=torch.uint8)
        unpacked = self._wide[: piece.num_bytes].view(piece.dtype).view(piece.shape)
        filled = self._filled(matrix, [unpacked])
        assert isinstance(filled, Tensor)
        packed = kernels.prepack(filled)
        assert isinstance(packed, Tensor)
        return packed

    def _is_packed(self, matrix: _Matrix) -> bool:
        if matrix.form is not Form.PLAIN or self._device.type != "cpu":
            return False
        return matrix.pieces[0].dtype == torch.float32 and is_matrix(matrix.name)

    def _expert(self, key: GroupKey, spare: Tensor | None) -> WeightGroup:
        buffer = spare if spare is not None else _pages(self.num_bytes(key), self._device)
        weights, start = {}, 0
        for matrix in self._matrices[key]:
            targets = []
            for piece in matrix.pieces:
                first = start + self._moved(piece, start)
                flat = buffer[first : first + piece.num_bytes].view(piece.dtype)
                targets.append(flat.view(piece.shape))
                start += pooled_bytes(piece.num_bytes)
            weights[matrix.name] = self._filled(matrix, targets)
        return WeightGroup(weights, buffer)

    def _moved(self, piece: TensorPiece, start: int) -> int:
        """How far behind `start` of a buffer of pages it lies, so that it can be read directly."""
        past = self._shards.bypasses_page_cache(piece.names[0])
        # What matmuls use where it lies gives other bits where it does not begin a cache line.
        alignment = ALIGNMENT if piece.dtype == self._dtype else piece.dtype.itemsize
        if not is_large(piece.num_bytes) or past % alignment:
            return 0
        return -start % PAGE_BYTES + past

    def _filled(self, matrix: _Matrix, targets: list[Tensor]) -> Weight:
        """The one place where weights are read, each piece into its target."""
        for piece, target in zip(matrix.pieces, targets, strict=True):
            rows_of = piece.rows(self._checkpoint, target)
            for name, rows in zip(piece.names, rows_of, strict=True):
                self._read_rows(name, rows)
        weight = build_weight(self._checkpoint, matrix.form, matrix.pieces, targets)
        add_norm_offset(self._norm_offset, matrix.name, weight)
        return weight

    def _read_rows(self, name: str, rows: Tensor) -> None:
        if self._checkpoint.info(name).scales is not None:
            rows.copy_(self._checkpoint.read(name))
            return
        if self._is_direct(name, rows.dtype):
            self._shards.read_into(name, _memory(rows))
            return
        raw = self._staging.take(self._shards.num_bytes(name))
        self._shards.read_into(name, _memory(raw))
        self._staging.give(rows, raw.view(self._stored(name)).view(rows.shape))

    def _is_direct(self, name: str, dtype: torch.dtype) -> bool:
        return self._device.type == "cpu" and self._stored(name) == dtype

    def _stored(self, name: str) -> torch.dtype:
        return STORED_DTYPES[self._checkpoint.info(name).dtype]


class _Staging:
    """Memory that bytes are read into before they are converted, or copied to a GPU.

    On a GPU there are two such buffers, pinned: while one is copied the other one is filled.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.depth = 2 if self.on_gpu else 1
        self._buffers = [torch.empty(0, dtype=torch.uint8)] * self.depth
        self._stream = _new_stream(device) if self.on_gpu else None
        self._copied: list[torch.cuda.Event | None] = [None] * self.depth
        self._turn = 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Within it copies go to the stream; at its end they are done."""
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield
        self._stream.synchronize()

    @property
    def num_bytes(self) -> int:
        return sum(buffer.nbytes for buffer in self._buffers)

    def clear(self) -> None:
        """Gives the memory back. Nothing is being read."""
        self._buffers = [torch.empty(0, dtype=torch.uint8)] * self.depth

    def take(self, num_bytes: int) -> Tensor:
        """Memory [num_bytes] uint8, free until the next `take`; `give` empties it."""
        self._turn = (self._turn + 1) % self.depth
        if (copied := self._copied[self._turn]) is not None:
            copied.synchronize()
        if len(self._buffers[self._turn]) < num_bytes:
            self._buffers[self._turn] = torch.empty(0, dtype=torch.uint8)  # before the larger one
            self._buffers[self._turn] = torch.empty(
                num_bytes, dtype=torch.uint8, pin_memory=self.on_gpu
            )
        return self._buffers[self._turn][:num_bytes]

    def give(self, target: Tensor, staged: Tensor) -> None:
        target.copy_(staged, non_blocking=self.on_gpu)
        if self._stream is not None:
            self._copied[self._turn] = self._stream.record_event()


def _new_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _pages(num_bytes: int, device: torch.device) -> Tensor:
    if device.type != "cpu":
        return torch.empty(num_bytes, dtype=torch.uint8, device=device)
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return torch.empty(num_bytes, dtype=torch.uint8)
    # Python's default is shared memory, which has no huge pages, and which limits do not count.
    memory = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):  # first use of small pages costs more than the disk
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8)


def _memory(tensor: Tensor) -> memoryview:
    return memoryview(tensor.view(-1).view(torch.uint8).numpy().data)
