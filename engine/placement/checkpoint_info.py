"""What a checkpoint is by its config and index alone; where the shards are there, by them."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from engine.checkpoint import INDEX, STORED_DTYPES, Checkpoint, name_alone
from engine.config import ModelConfig
from engine.errors import CheckpointError
from engine.families import family_named
from engine.files import read_json
from engine.model_source import ModelSource
from engine.placement.weight_bytes import Precision, shapes, with_quantization
from engine.quantized.forms import ITEM_BYTES, UNQUANTIZED, USUAL, Form, is_matrix
from engine.weights import meta_model, source_rows

_MOST_INDEX_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """A checkpoint without its data. `stored_bytes` are those of its tensors, headers not counted.

    `stored_as` is what its matrices are in, a dtype or forms such as int4/64, and `precision` what
    the plain ones are in, or the embedding. `shard` is one file that is here, to measure reading
    with; None where only config and index are.
    """

    num_tensors: int
    num_shards: int
    stored_bytes: int
    precision: Precision
    stored_as: str
    source: str
    shard: Path | None = None


def checkpoint_info(model: Path | ModelSource, config: ModelConfig) -> CheckpointInfo:
    """Of the checkpoint of `model`. Reads no weights, and needs none where there is an index.

    Without shards the shapes are the config's: the index must name just these tensors, and its
    total_size tells the precision. Raises CheckpointError where names or sizes do not agree.
    """
    source = ModelSource.of(model)
    directory = source.path
    index = read_index(directory)
    if index is None:
        return of_checkpoint(source.open_checkpoint(), config)
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{directory / INDEX}: no weight_map")
    shards = sorted({str(shard) for shard in weight_map.values()})
    plain = (directory / INDEX).is_file()
    if plain and all((directory / shard).is_file() for shard in shards):
        return of_checkpoint(Checkpoint(directory), config)
    return _by_index(directory, config, index, weight_map, shards)


def read_index(directory: Path) -> dict[str, Any] | None:
    """The index, also as a `.gz` of bounded size; None if there is none."""
    plain = directory / INDEX
    if plain.exists():
        return read_json(plain)
    packed = plain.with_name(f"{INDEX}.gz")
    if not packed.exists():
        return None
    try:
        inflater = zlib.decompressobj(wbits=31)
        text = inflater.decompress(packed.read_bytes(), _MOST_INDEX_BYTES)
        if not inflater.eof:
            raise CheckpointError(f"{packed}: cut, or over {_MOST_INDEX_BYTES:,} bytes inside")
        value = json.loads(text)
    except CheckpointError:
        raise
    except (OSError, ValueError, zlib.error, RecursionError) as error:
        raise CheckpointError(f"{packed}: not readable ({error})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{packed}: expected a JSON object")
    return value


def tensor_bytes(config: ModelConfig, precision: Precision) -> dict[str, int]:
    """Of every tensor the checkpoint must have, by its name there.

    Plain ones are in `precision` but for the router, which is float32, as published.
    """
    sources = family_named(config.family).sources(config)
    found: dict[str, int] = {}
    for name, shape in shapes(config).items():
        form, width = config.quantization.form_of(name), shape[-1:] if len(shape) > 1 else ()
        num_rows = prod(shape) // (width[0] if width else 1)
        rows = source_rows(config, name, num_rows, len(sources[name]))
        for source, count in zip(sources[name], rows, strict=True):
            if form is Form.PLAIN:
                found[source] = precision.stored_bytes(config, name, (count, *width))
                continue
            for suffix, dtype, own in form.parts(count, *width):
                found[f"{source}.{suffix}"] = ITEM_BYTES[dtype] * prod(own)
    return found


def stored_bytes(config: ModelConfig, precision: Precision) -> int:
    """Of all tensors."""
    return sum(tensor_bytes(config, precision).values())


def weights_bytes(config: ModelConfig, outline: CheckpointInfo) -> dict[str, int]:
    """All tensors as they are stored, and as they would be plain or quantised, scales included."""
    plain = replace(config, quantization=UNQUANTIZED)
    sizes = {str(precision): stored_bytes(plain, precision) for precision in Precision}
    for name, form in USUAL.items():
        sizes[name] = stored_bytes(with_quantization(config, form), outline.precision)
    return {"stored": outline.stored_bytes, **sizes}


def _by_index(
    directory: Path,
    config: ModelConfig,
    index: Mapping[str, Any],
    weight_map: Mapping[str, object],
    shards: list[str],
) -> CheckpointInfo:
    tensors = tensor_bytes(config, Precision.FLOAT32)
    if absent := sorted(tensors.keys() - set(map(name_alone, weight_map))):
        raise CheckpointError(
            f"{directory}: the index lacks {len(absent):,} tensors that config.json asks for, "
            f"first {absent[0]}"
        )
    metadata = index.get("metadata")
    told = metadata.get("total_size") if isinstance(metadata, dict) else None
    known = {stored_bytes(config, precision): precision for precision in Precision}
    # Some publish the router in bfloat16, too.
    routers = sum(prod(s) for n, s in shapes(config).items() if n.endswith("router"))
    known[stored_bytes(config, Precision.BFLOAT16) - 2 * routers] = Precision.BFLOAT16
    if told not in known:
        expected = " or ".join(f"{total:,}" for total in sorted(known))
        raise CheckpointError(
            f"{directory}: the index tells {told!r:.40} bytes, config.json asks for {expected}; "
            "they do not belong together, or a shard is needed to tell the dtypes"
        )
    return CheckpointInfo(
        num_tensors=len(tensors),
        num_shards=len(shards),
        stored_bytes=int(told),
        precision=known[told],
        stored_as=_named(config, known[told]),
        source=f"config and index ({len(shards)} shards, none needed)",
    )


def of_checkpoint(checkpoint: Checkpoint, config: ModelConfig) -> CheckpointInfo:
    """By the shards' headers. Raises CheckpointError where they are not what the config asks."""
    meta_model(checkpoint, config)
    precision = stored_precision(checkpoint, config)
    infos = checkpoint.tensors.values()
    shards = sorted({info.shard for info in infos})
    return CheckpointInfo(
        num_tensors=len(checkpoint.tensors),
        num_shards=len(shards),
        stored_bytes=sum(map(checkpoint.stored_bytes, checkpoint.tensors)),
        precision=precision,
        stored_as=_named(config, precision),
        source=f"the headers of {len(shards)} file{'s' if len(shards) > 1 else ''}",
        shard=checkpoint.shard_path(shards[0]),
    )


def stored_precision(checkpoint: Checkpoint, config: ModelConfig) -> Precision:
    """What the plain matrices are stored in, the widest, or the embedding if there are none."""
    if config.quantization.blocks:
        return Precision.FLOAT32
    sources = family_named(config.family).sources(config)
    form_of = config.quantization.form_of
    plain = [name for name in sources if is_matrix(name) and form_of(name) is Form.PLAIN]
    stored = {
        STORED_DTYPES[checkpoint.info(tensor).dtype]
        for name in plain or ["embed.weight"]
        for tensor in sources[name]
    }
    return max(map(Precision.of, stored), key=lambda precision: precision.item_bytes)


def _named(config: ModelConfig, precision: Precision) -> str:
    is_plain = config.quantization == UNQUANTIZED
    return str(precision if is_plain else config.quantization)
