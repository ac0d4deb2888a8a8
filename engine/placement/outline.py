"""What a checkpoint is by its config and index alone; where the shards are there, by them."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from engine.checkpoint import INDEX, Checkpoint, skeleton, source_rows
from engine.config import ModelConfig
from engine.errors import CheckpointError
from engine.families import family_named
from engine.files import read_json
from engine.placement.parts import Precision, Shape, is_matrix, shapes

_MOST_INDEX_BYTES = 256 * 2**20
_STORED = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I8": 1, "U8": 1}


@dataclass(frozen=True, slots=True)
class Outline:
    """A checkpoint without its data. `stored_bytes` are those of its tensors, headers not counted.

    `precision` is what its layers' matrices are stored in. `shard` is one file that is here, to
    measure reading with; None where only config and index are.
    """

    num_tensors: int
    num_shards: int
    stored_bytes: int
    precision: Precision
    source: str
    shard: Path | None = None


def outline(directory: Path, config: ModelConfig) -> Outline:
    """Of the checkpoint in `directory`. Reads no weights, and needs none where there is an index.

    Without shards the shapes are the config's: the index must name just these tensors, and its
    total_size tells the precision. Raises CheckpointError where names or sizes do not agree.
    """
    index = read_index(directory)
    if index is None:
        return of_checkpoint(Checkpoint(directory), config)
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


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[str, Shape]]:
    """Of every tensor the checkpoint must have, our parameter's name and its own shape."""
    sources = family_named(config.family).sources(config)
    found: dict[str, tuple[str, Shape]] = {}
    for name, shape in shapes(config).items():
        width = shape[-1:] if len(shape) > 1 else ()
        num_rows = prod(shape) // (width[0] if width else 1)
        rows = source_rows(config, name, num_rows, len(sources[name]))
        for source, count in zip(sources[name], rows, strict=True):
            found[source] = (name, (count, *width))
    return found


def stored_bytes(tensors: Mapping[str, tuple[str, Shape]], precision: Precision) -> int:
    """Of all tensors, where the router is float32 and the rest in `precision`, as published."""
    wide = {Precision.FLOAT32: 4}.get(precision, 2)
    total = 0
    for name, shape in tensors.values():
        if precision.is_quantised and is_matrix(name):
            total += precision.matrix_bytes(shape)
        else:
            total += prod(shape) * (4 if name.endswith("router") else wide)
    return total


def weights_bytes(config: ModelConfig, outline: Outline) -> dict[str, int]:
    """All tensors as they are stored, and in each precision, scales included."""
    tensors = tensor_shapes(config)
    sizes = {str(precision): stored_bytes(tensors, precision) for precision in Precision}
    return {"stored": outline.stored_bytes, **sizes}


def _by_index(
    directory: Path,
    config: ModelConfig,
    index: Mapping[str, Any],
    weight_map: Mapping[str, object],
    shards: list[str],
) -> Outline:
    tensors = tensor_shapes(config)
    if absent := sorted(tensors.keys() - weight_map.keys()):
        raise CheckpointError(
            f"{directory}: the index lacks {len(absent):,} tensors that config.json asks for, "
            f"first {absent[0]}"
        )
    metadata = index.get("metadata")
    told = metadata.get("total_size") if isinstance(metadata, dict) else None
    sums = {
        precision: stored_bytes(tensors, precision)
        for precision in (Precision.BFLOAT16, Precision.FLOAT32)
    }
    # Some publish the router in bfloat16, too.
    routers = sum(prod(s) for n, s in tensors.values() if n.endswith("router"))
    known = {total: precision for precision, total in sums.items()}
    known[sums[Precision.BFLOAT16] - 2 * routers] = Precision.BFLOAT16
    if told not in known:
        expected = " or ".join(f"{total:,}" for total in sorted(known))
        raise CheckpointError(
            f"{directory}: the index tells {told!r:.40} bytes, config.json asks for {expected}; "
            "they do not belong together, or a shard is needed to tell the dtypes"
        )
    return Outline(
        num_tensors=len(tensors),
        num_shards=len(shards),
        stored_bytes=int(told),
        precision=known[told],
        source=f"config and index ({len(shards)} shards, none needed)",
    )


def of_checkpoint(checkpoint: Checkpoint, config: ModelConfig) -> Outline:
    """By the shards' headers. Raises CheckpointError where they are not what the config asks."""
    skeleton(checkpoint, config)
    infos = checkpoint.tensors.values()
    shards = sorted({info.shard for info in infos})
    return Outline(
        num_tensors=len(checkpoint.tensors),
        num_shards=len(shards),
        stored_bytes=sum(prod(info.shape) * _STORED[info.dtype] for info in infos),
        precision=stored_precision(checkpoint, config),
        source=f"the headers of {len(shards)} file{'s' if len(shards) > 1 else ''}",
        shard=checkpoint.directory / shards[0],
    )


def stored_precision(checkpoint: Checkpoint, config: ModelConfig) -> Precision:
    """What the layers' matrices are stored in: the widest, where they differ."""
    sources = family_named(config.family).sources(config)
    matrices = {s for name, tensors in sources.items() if is_matrix(name) for s in tensors}
    tensors = checkpoint.tensors
    widest = max((_STORED[tensors[name].dtype] for name in matrices & tensors.keys()), default=0)
    if widest:
        return Precision.FLOAT32 if widest > 2 else Precision.BFLOAT16
    codes = {info.dtype for name, info in tensors.items() if name.endswith(".codes")}
    return Precision.INT8 if "I8" in codes else Precision.INT4
