"""The tensors of a GGUF file that is run where it lies, by their Hugging Face names.

Matrices stay in the file's own blocks, mapped and not copied.
"""

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from engine.checkpoint import Checkpoint, TensorInfo
from engine.gguf.blocks import PLAIN, slices
from engine.gguf.file import PLAIN_KINDS, Bytes
from engine.gguf.model import GgufModel
from engine.gguf.source import Source
from engine.quantized.forms import Form
from kernels import BlockType, ExpertStack, GgmlWeight, StackedWeight
from kernels.quantized import Weight

_SAMPLED, _SAMPLE_BYTES = 512, 4096  # so many tensors, so much of each, are in the fingerprint
_FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class GgufCheckpoint(Checkpoint):
    """The tensors of the GGUF file `model`, or of the split one it is part of.

    With `has_int8_rows` what is multiplied with its blocks is rounded to eight bits first, faster
    and less exact: kernels/linear/int8_rows.py. Raises GgufError where the file is damaged or
    contradicts itself, OSError if it cannot be read.
    """

    def __init__(self, model: Path, opened: GgufModel, *, has_int8_rows: bool = False) -> None:
        self.directory, self._has_int8_rows = model, has_int8_rows
        self._headers = opened.file.headers
        self._sources = {source.name: source for source in opened.sources}
        self.tensors = {
            name: TensorInfo(model.name, source.shape, PLAIN.get(source.tensor.kind, "F32"))
            for name, source in self._sources.items()  # blocks are read as float32
        }

    def read(self, name: str) -> Tensor:
        """As float32, whatever the file has it in."""
        source = self._source(name)
        whole = torch.cat([part.values for part in slices(source, Form.PLAIN)])
        return whole.view(source.shape)

    def slices(self, name: str, num_rows: int) -> Iterator[Tensor]:  # noqa: ARG002 (its own)
        return (part.values for part in slices(self._source(name), Form.PLAIN))

    def shard_path(self, shard: str) -> Path:
        return self.directory.with_name(shard)

    def stored_bytes(self, name: str) -> int:
        source = self._source(name)
        return source.tensor.packed.nbytes * prod(source.shape) // prod(source.tensor.shape)

    def as_stored(self, names: Sequence[str], num_experts: int) -> Weight | ExpertStack:
        """The tensors `names` below each other in the file's own blocks; if they are those of
        `num_experts` experts, one expert after the other, a stack of these."""
        parts = [self._weight(name) for name in names]
        if not num_experts:
            return _stacked(parts)
        each = len(parts) // num_experts
        return FileExperts(
            [_stacked(parts[first : first + each]) for first in range(0, len(parts), each)]
        )

    def fingerprint(self) -> bytes:
        """Of the headers, and of `_SAMPLED` tensors some bytes of the middle."""
        digest = hashlib.sha256()
        for header in self._headers:
            digest.update(header.data[: header.data_start])
        known = sorted(self._sources)
        for name in known[:: max(1, -(-len(known) // _SAMPLED))]:
            packed = self._sources[name].tensor.packed
            digest.update(packed[len(packed) // 2, :_SAMPLE_BYTES].tobytes())
        return digest.digest()

    def _source(self, name: str) -> Source:
        self.info(name)
        return self._sources[name]

    def _weight(self, name: str) -> GgmlWeight | Tensor:
        source = self._source(name)
        packed, kind = _as_tensor(source.rows()), source.tensor.kind
        if kind in PLAIN_KINDS:
            return packed.view(-1).view(_FLOATS[kind.name]).view(source.shape)
        blocks = packed.view(*source.shape[:-1], -1)
        return GgmlWeight(BlockType[kind.name], blocks, self._has_int8_rows)


class FileExperts(ExpertStack):
    """Experts that all lie in a mapped file."""

    def __init__(self, experts: Sequence[Weight]) -> None:
        self._experts = experts

    def __getitem__(self, expert: int) -> Weight:
        return self._experts[expert]

    def hint(self, experts: Sequence[int]) -> None:
        """The system reads pages as they are used."""

    def to(self, device: torch.device) -> Self:
        return type(self)([expert.to(device) for expert in self._experts])


def _stacked(parts: Sequence[Weight]) -> Weight:
    return parts[0] if len(parts) == 1 else StackedWeight(tuple(parts))


def _as_tensor(packed: Bytes) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the file must not be written to: nobody does
        return torch.from_numpy(packed)
