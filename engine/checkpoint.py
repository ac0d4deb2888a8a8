"""Checkpoints on disk: safetensors shards and their index, read by streaming.

Hostile input: shard names may not leave the directory, every shape is compared with the config's
before a byte is allocated, and offsets are checked by the safetensors library against the file.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from engine.config import ModelConfig
from engine.errors import CheckpointError, PlacementError
from engine.families import family_named
from engine.files import read_json
from engine.model import Model
from engine.pipeline_parallel.model import Stage, StagedModel
from engine.quantized.forms import ITEM_BYTES, Form
from kernels import ExpertStack, Int4Weight, Int8Weight
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


class Checkpoint:
    """The tensors of a directory: names, shapes and dtypes known, data read when asked for.

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
        if index is not None and (absent := sorted(index.keys() - set(self._stored.values()))):
            raise CheckpointError(
                f"{directory}: {len(absent)} tensors of the index are not in their shards, "
                f"first {absent[0]} in {index[absent[0]]}"
            )

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
            return tensor
        stack, expert, row = info.rows_of
        part = file.get_slice(self.stored_name(stack))
        rows: Tensor = part[expert, row : row + info.shape[0]]
        return rows

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
        return prod(info.shape) * ITEM_BYTES[info.dtype]

    def as_stored(self, names: Sequence[str], num_experts: int) -> Weight | ExpertStack:  # noqa: ARG002
        """Of parameters of the form `Form.BLOCKS`, which only GGUF files have."""
        raise CheckpointError(f"{self.directory}: {names[0]} is in no blocks")

    def slices(self, name: str, num_rows: int) -> Iterator[Tensor]:
        """The tensor, so many entries of its first axis in memory at a time."""
        info = self.info(name)
        if info.rows_of is not None:
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


def meta_model(checkpoint: Checkpoint, config: ModelConfig, stages: Sequence[Stage] = ()) -> Model:
    """The model without data, every parameter held against the checkpoint's names and shapes.

    Allocates nothing; quantised weights are plain parameters here. Raises CheckpointError at the
    first tensor that is missing or differs.
    """
    with torch.device("meta"):
        model = StagedModel(config, stages) if stages else Model(config)
    sources = family_named(config.family).sources(config)
    parameters = dict(model.named_parameters())
    if odd := [name for name, _ in config.quantization.exceptions if name not in parameters]:
        raise CheckpointError(
            f"{checkpoint.directory}: config.json has a form for {odd[0]!r:.80}, "
            "which the model does not have"
        )
    for name, parameter in parameters.items():
        _check(checkpoint, config, name, sources[name], parameter)
    return model


def load(
    checkpoint: Checkpoint,
    config: ModelConfig,
    *,
    device: torch.device,
    dtype: torch.dtype,
    stages: Sequence[Stage] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> Model:
    """The model with its weights on `device`, one checkpoint tensor in memory at a time.

    With `stages` each layer's weights are on its stage's device instead.

    `Model.prepare_for_inference` then makes it fast; without that it can be trained, unless it is
    quantised. Matmuls run in `dtype`; norms, router and head stay float32; what the checkpoint has
    in int8 or int4 stays so. `on_progress` gets bytes done and in all, as if all were float32.
    Raises CheckpointError before allocating if a shape or dtype is not the config's.
    """
    model = meta_model(checkpoint, config, stages)
    sources = family_named(config.family).sources(config)
    parameters = dict(model.named_parameters())
    total = sum(parameter.nbytes for parameter in parameters.values())
    done = 0
    for name, parameter in parameters.items():
        target_dtype = torch.float32 if keep_in_fp32(name) else dtype
        form = config.quantization.form_of(name)
        place = model.place_of(name) if isinstance(model, StagedModel) else device
        if form is Form.BLOCKS:
            count = config.num_experts if parameter.dim() == 3 else 0
            _replace(model, name, checkpoint.as_stored(sources[name], count).to(place))
        else:
            weight = read_weight(checkpoint, sources[name], form, device=place, dtype=target_dtype)
            add_norm_offset(config.norm_offset, name, weight)
            is_plain, shape = isinstance(weight, Tensor), parameter.shape
            _replace(model, name, weight.view(*(shape if is_plain else shape[:-1])))
        done += parameter.nbytes
        if on_progress is not None:
            on_progress(done, total)
    if config.tied_embeddings:
        head_place = model.place_of("head.weight") if isinstance(model, StagedModel) else device
        _replace(model, "head.weight", model.embed.weight.to(head_place))
    model.block_dtype = dtype
    return model.eval()


def read_weight(
    checkpoint: Checkpoint,
    sources: Sequence[str],
    form: Form,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> Weight:
    """The rows of the tensors `sources`, stacked: [O, I] in `form`; a plain one in `dtype`.

    One source is in memory beside the result at a time. The sources must have been held against
    the config (`meta_model`). Raises CheckpointError if a scale or an offset is not finite.
    """
    pieces = tensor_pieces(checkpoint, sources, form, dtype)
    tensors = []
    for piece in pieces:
        stacked = torch.empty(piece.shape, dtype=piece.dtype, device=device)
        for name, rows in zip(piece.names, piece.rows(checkpoint, stacked), strict=True):
            rows[:] = checkpoint.read(name)
        tensors.append(stacked)
    return build_weight(checkpoint, form, pieces, tensors)


class TensorPiece(NamedTuple):
    """One tensor of a weight as it is held, and the checkpoint's tensors whose rows are its rows.

    A plain weight is one piece; see `Form.parts` for the others.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    def rows(self, checkpoint: Checkpoint, stacked: Tensor) -> Iterator[Tensor]:
        """What of `stacked`, which has the piece's shape, is each name's."""
        start = 0
        for name in self.names:
            num_rows = checkpoint.info(name).shape[0]
            yield stacked[start : start + num_rows]
            start += num_rows


def tensor_pieces(
    checkpoint: Checkpoint, sources: Sequence[str], form: Form, dtype: torch.dtype
) -> tuple[TensorPiece, ...]:
    """Of the weight whose rows are those of `sources`; a plain one is held in `dtype`."""

    def piece(names: tuple[str, ...], kept: torch.dtype) -> TensorPiece:
        shapes = [checkpoint.info(name).shape for name in names]
        return TensorPiece(names, (sum(s[0] for s in shapes), *shapes[0][1:]), kept)

    if form is Form.PLAIN:
        return (piece(tuple(sources), dtype),)
    return tuple(
        piece(tuple(f"{source}.{suffix}" for source in sources), STORED_DTYPES[kind])
        for suffix, kind, _ in form.parts(0, form.group)
    )


def build_weight(
    checkpoint: Checkpoint, form: Form, pieces: Sequence[TensorPiece], tensors: Sequence[Tensor]
) -> Weight:
    """The weight in `form` whose pieces were read into `tensors`.

    Raises CheckpointError if a scale or an offset is not finite.
    """
    if form is Form.PLAIN:
        return tensors[0]
    for piece, tensor in zip(pieces, tensors, strict=True):
        # Extremes tell it without a mask as large as the tensor.
        if tensor.is_floating_point() and not torch.stack(tensor.aminmax()).isfinite().all():
            raise CheckpointError(
                f"{checkpoint.directory}: {piece.names[0]} is not finite; damaged"
            )
    return Int8Weight(*tensors) if form is Form.INT8 else Int4Weight(*tensors)


def keep_in_fp32(name: str) -> bool:
    """Whether the parameter is kept in float32 whatever dtype matmuls run in."""
    kinds = ("router", "bias", "log_decay")
    return "norm" in name or name.endswith(kinds) or name == "head.weight"


def add_norm_offset(offset: float, name: str, weight: Weight) -> None:
    """Makes the weight of a norm, as it was read, what the model multiplies with."""
    if offset and name.endswith("norm.weight"):
        assert isinstance(weight, Tensor)
        weight += offset


def weight_bytes(config: ModelConfig, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> int:
    """What `load` takes for a parameter of this name and shape where matmuls run in `dtype`."""
    quantization = config.quantization
    if quantization.form_of(name) is Form.PLAIN:
        return prod(shape) * (4 if keep_in_fp32(name) else dtype.itemsize)
    return quantization.num_bytes(name, prod(shape[:-1]), shape[-1])


def _check(
    checkpoint: Checkpoint,
    config: ModelConfig,
    name: str,
    sources: tuple[str, ...],
    parameter: Tensor,
) -> None:
    width = tuple(parameter.shape[-1:]) if parameter.dim() > 1 else ()
    num_rows = parameter.numel() // (width[0] if width else 1)
    form = config.quantization.form_of(name)
    for source, rows in zip(
        sources, source_rows(config, name, num_rows, len(sources)), strict=True
    ):
        if form is Form.BLOCKS:
            _check_tensor(checkpoint, source, None, (rows, *width))
            continue
        if form is Form.PLAIN:
            between = (1,) if name.endswith("convolution") else ()  # channels that are not mixed
            _check_tensor(checkpoint, source, tuple(DTYPES), (rows, *between, *width))
            continue
        for suffix, dtype, shape in form.parts(rows, *width):
            _check_tensor(checkpoint, f"{source}.{suffix}", (dtype,), shape)


def _check_tensor(
    checkpoint: Checkpoint, name: str, dtypes: tuple[str, ...] | None, shape: tuple[int, ...]
) -> None:
    info = checkpoint.info(name)
    where = f"{checkpoint.directory / info.shard}: {name}"
    if dtypes is not None and info.dtype not in dtypes:
        raise CheckpointError(f"{where} is {info.dtype}; supported: {', '.join(sorted(dtypes))}")
    if info.shape != shape:
        raise CheckpointError(f"{where} has shape {info.shape}, config.json asks {shape}")


def source_rows(config: ModelConfig, name: str, num_rows: int, num_sources: int) -> list[int]:
    """Rows each source must have: q, k and v as many as their heads, a delta layer's z as many as
    its values, others equally many."""
    if name.endswith("mixer.qkvz") and num_sources == 2:
        options = config.layers[_layer_of(name)].delta
        return [options.num_channels, options.value_size]
    if name.endswith(("mixer.qkv", "mixer.qkv_bias")) and num_sources == 3:
        is_gated = config.layers[_layer_of(name)].softmax.gate_in_q
        heads = (config.num_heads * (1 + is_gated), config.num_kv_heads, config.num_kv_heads)
        return [count * config.head_dim for count in heads]
    return [num_rows // num_sources] * num_sources


def _layer_of(name: str) -> int:
    return int(name.split(".")[1])


def _replace(model: nn.Module, name: str, weight: Weight | ExpertStack) -> None:
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    if isinstance(weight, nn.Parameter):  # a tied head
        setattr(module, leaf, weight)
    elif isinstance(weight, Tensor):
        setattr(module, leaf, nn.Parameter(weight, requires_grad=False))
    else:  # no parameter: its place must be free for a plain attribute
        delattr(module, leaf)
        setattr(module, leaf, weight)
