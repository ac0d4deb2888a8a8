"""A checkpoint's tensors as a model's weights: held against the config, stacked, put in place.

Every shape is compared with the config's before a byte is allocated.
"""

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from engine.checkpoint import DTYPES, STORED_DTYPES, Checkpoint
from engine.config import Mixer, ModelConfig
from engine.errors import CheckpointError
from engine.families import family_named
from engine.model import Model
from engine.pipeline_parallel.model import Stage, StagedModel
from engine.quantized.forms import Form
from kernels import ExpertStack, Int4Weight, Int8Weight
from kernels.quantized import Weight


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
        layer = config.layers[_layer_of(name)]
        if layer.mixer is Mixer.LIGHTNING:  # as many keys and values as queries
            return [num_rows // 3] * 3
        is_gated = layer.softmax.gate_in_q
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
