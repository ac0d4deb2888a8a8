"""Checkpoints on disk: safetensors shards and their index, read by streaming.

Hostile input: shard names may not leave the directory, offsets are checked by the safetensors
library against the file, and shapes by engine/weights.py against the config.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.errors import CheckpointError, PlacementError
from engine.files import read_json
from engine.quantized.forms import ITEM_BYTES
from kernels import ExpertStack
from kernels.quantized import Weight

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
STORED_DTYPES = {**DTYPES, "I8": torch.int8, "U8": torch.uint8}
# Of models that see pictures too: where the text part lies, and what it is called by itself.
_TEXT_PARTS = {
    "model.language_model.": "model.",
    "language_model.model.": "model.",
    "language_model.lm_head.": "lm_head.",
}
_EXPERT = re.compile(r"(.+\.experts)\.(\d{1,5})\.(gate|up|down)_proj\.weight")
_SAMPLED, _NUMBERS = 512, 4096  # so many tensors, so many elements of each, are in the fingerprint


class StackRows(NamedTuple):
    """Where in a stored stack of experts [N, O, I] a matrix begins."""

    stack: str
    expert: int
    row: int


@dataclass(frozen=True, slots=True)
class TensorInfo:
    shard: str
    shape: tuple[int, ...]
    dtype: str
    rows_of: StackRows | None = None  # if it is not stored by itself
    scales: str | None = None  # if it is stored in fp8: the tensor of its blocks' scales


_FP8, _FP8_BLOCK = "F8_E4M3", 128  # a scale for so many rows and columns
_FP8_SCALES = ("_scale_inv", "_scale")


class Checkpoint:
    """The tensors of a directory: names, shapes and dtypes known, data read when asked for.

    Matrices in fp8 with a scale for each 128 x 128 block are bfloat16 to who asks, and so read.

    The text part of a model that has others goes by the names that it has alone. Where experts are
    stored as stacks, `info`, `read` and `slices` also know each one's matrices, by the names they
    have where they are stored one by one.

    Raises CheckpointError when a shard is missing, cut, or does not hold what the index says.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tensors: dict[str, TensorInfo] = {}
        self._stored: dict[str, str] = {}  # by the names of `tensors`
        index = self._index()
        shards = sorted(set(index.values())) if index is not None else [SINGLE]
        self._num_shards = len(shards)
        self._files: dict[str, Any] = {}
        for shard in shards:
            file = self._open(shard)  # and closed again: an open one is mapped, all of it
            for stored in file.keys():  # noqa: SIM118 (safe_open is no mapping)
                if index is None or index.get(stored) == shard:
                    part, name = file.get_slice(stored), name_alone(stored)
                    if name in self._stored:
                        twice = f"{self._stored[name]} and {stored}"
                        raise CheckpointError(f"{directory}: {twice} are two of one tensor")
                    self._stored[name] = stored
                    shape = tuple(part.get_shape())
                    self.tensors[name] = TensorInfo(shard, shape, part.get_dtype())
        self._find_scales()
        if index is not None and (absent := sorted(index.keys() - set(self._stored.values()))):
            raise CheckpointError(
                f"{directory}: {len(absent)} tensors of the index are not in their shards, "
                f"first {absent[0]} in {index[absent[0]]}"
            )

    def _find_scales(self) -> None:
        for name, info in list(self.tensors.items()):
            found = next((f"{name}{x}" for x in _FP8_SCALES if f"{name}{x}" in self.tensors), None)
            if info.dtype != _FP8 or found is None:
                continue
            scales, blocks = self.tensors[found], tuple(-(-n // _FP8_BLOCK) for n in info.shape)
            if scales.shape != blocks or scales.dtype not in DTYPES:
                raise CheckpointError(
                    f"{self.directory / scales.shard}: {found} is {scales.dtype} {scales.shape}, "
                    f"expected a scale for each block of 128 x 128: {blocks}"
                )
            self.tensors[name] = replace(info, dtype="BF16", scales=found)

    def _index(self) -> dict[str, str] | None:
        if not (self.directory / INDEX).exists():
            return None
        weight_map = read_json(self.directory / INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{self.directory / INDEX}: no weight_map")
        for shard in weight_map.values():
            if not isinstance(shard, str) or Path(shard).name != shard or shard in {"", ".."}:
                raise CheckpointError(f"{self.directory / INDEX}: bad shard name {shard!r:.80}")
        return weight_map

    def _open(self, shard: str) -> Any:  # noqa: ANN401 (safe_open is untyped)
        path = self.directory / shard
        if not path.is_file():
            known = (
                f"one of {self._num_shards} shards" if self._num_shards > 1 else "the only shard"
            )
            raise CheckpointError(f"{self.directory}: {shard} is missing, {known}; fetch it again")
        try:
            return safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: cut or damaged ({error}); fetch it again") from None
        except RuntimeError:  # the library maps the file, which a limit of the process may forbid
            size = path.stat().st_size / 1e9
            raise PlacementError(
                f"{path}: no room to map its {size:.2f} GB; allow this process more memory "
                "(ulimit -d, ulimit -v)"
            ) from None

    def info(self, name: str) -> TensorInfo:
        info = self.tensors.get(name) or self._in_stack(name)
        if info is None:
            raise CheckpointError(f"{self.directory}: tensor {name} is missing")
        return info

    def _in_stack(self, name: str) -> TensorInfo | None:
        """Of an expert's matrix where experts are stored as stacks, as Qwen3.5 is published."""
        if (found := _EXPERT.fullmatch(name)) is None:
            return None
        prefix, expert, part = found[1], int(found[2]), found[3]
        stack = f"{prefix}.down_proj" if part == "down" else f"{prefix}.gate_up_proj"
        info = self.tensors.get(stack)
        if info is None or len(info.shape) != 3 or expert >= info.shape[0]:
            return None
        num_rows, width = info.shape[1:]
        if part == "down":
            return TensorInfo(
                info.shard, (num_rows, width), info.dtype, StackRows(stack, expert, 0)
            )
        half, odd = divmod(num_rows, 2)
        if odd:
            return None
        rows = StackRows(stack, expert, half if part == "up" else 0)
        return TensorInfo(info.shard, (half, width), info.dtype, rows)

    def read(self, name: str) -> Tensor:
        info = self.info(name)
        file = self._file(info.shard)
        if info.rows_of is None:
            tensor: Tensor = file.get_tensor(self.stored_name(name))
            return tensor if info.scales is None else self._scaled(tensor, info.scales)
        stack, expert, row = info.rows_of
        part = file.get_slice(self.stored_name(stack))
        rows: Tensor = part[expert, row : row + info.shape[0]]
        return rows

    def _scaled(self, values: Tensor, scales: str) -> Tensor:
        num_rows, width = values.shape
        by_row = self.read(scales).float().repeat_interleave(_FP8_BLOCK, dim=0)[:num_rows]
        every = by_row.repeat_interleave(_FP8_BLOCK, dim=1)[:, :width]
        return (values.float() * every).bfloat16()

    def stored_name(self, name: str) -> str:
        """What the tensor is called in its shard."""
        return self._stored[name]

    def shard_path(self, shard: str) -> Path:
        return self.directory / shard

    def _file(self, shard: str) -> Any:  # noqa: ANN401
        if shard not in self._files:
            self._files[shard] = self._open(shard)
        return self._files[shard]

    def stored_bytes(self, name: str) -> int:
        """What the tensor takes on disk."""
        info = self.info(name)
        return prod(info.shape) * ITEM_BYTES[_FP8 if info.scales else info.dtype]

    def as_stored(self, names: Sequence[str], num_experts: int) -> Weight | ExpertStack:  # noqa: ARG002
        """Of parameters of the form `Form.BLOCKS`, which only GGUF files have."""
        raise CheckpointError(f"{self.directory}: {names[0]} is in no blocks")

    def slices(self, name: str, num_rows: int) -> Iterator[Tensor]:
        """The tensor, so many entries of its first axis in memory at a time."""
        info = self.info(name)
        if info.rows_of is not None or info.scales is not None:
            yield from torch.split(self.read(name), num_rows)
            return
        part = self._file(info.shard).get_slice(self.stored_name(name))
        for start in range(0, info.shape[0], num_rows):
            yield part[start : start + num_rows]

    def fingerprint(self) -> bytes:
        """Of names, dtypes, shapes, and of `_SAMPLED` tensors some elements of the middle row.

        All elements would take as long as loading them; these tell models apart that were trained
        differently. The same whichever shards hold the tensors. Raises CheckpointError.
        """
        lines = (f"{n} {i.dtype} {i.shape}\n" for n, i in sorted(self.tensors.items()))
        digest = hashlib.sha256("".join(lines).encode())
        known = sorted(n for n, i in self.tensors.items() if i.dtype in STORED_DTYPES)
        wanted: dict[str, list[str]] = {}
        for name in known[:: max(1, -(-len(known) // _SAMPLED))]:
            wanted.setdefault(self.tensors[name].shard, []).append(name)
        samples: dict[str, bytes] = {}
        for shard, held in wanted.items():
            file = self._open(shard)
            samples |= {
                name: _sample(file, self.stored_name(name), self.tensors[name].shape)
                for name in held
            }
        for name in sorted(samples):
            digest.update(samples[name])
        return digest.digest()


def name_alone(stored: str) -> str:
    """What a tensor that is stored by this name is called in a model of text alone."""
    for part, alone in _TEXT_PARTS.items():
        if stored.startswith(part):
            return alone + stored.removeprefix(part)
    return stored


def _sample(file: Any, name: str, shape: tuple[int, ...]) -> bytes:  # noqa: ANN401
    """Up to `_NUMBERS` elements: of a matrix those of its middle row."""
    if not all(shape):
        return b""
    middle = [slice(size // 2, size // 2 + 1) for size in shape[:-1]]
    found: Tensor = (
        file.get_slice(name)[(*middle, slice(_NUMBERS))] if shape else file.get_tensor(name)
    )
    return found.reshape(-1).view(torch.uint8).numpy().tobytes()
