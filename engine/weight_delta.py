"""A model as what it changed in its parent: small tensors, and the two put together again.

DIR/manifest.json   config, sha256 of every shard, fingerprint of the parent (and of the result)
DIR/shard-00.safetensors ...

As int8 each matrix has a float32 scale for every row (under "NAME|scale"); as int4 its codes are
packed (under "NAME|int4"), with a scale and an offset for every group of 64; as bfloat16 it has
nothing beside it. Vectors stay float32. Tensors that are the parent's bit by bit are left out.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from shutil import copyfile
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from engine import durable
from engine.checkpoint import Checkpoint
from engine.errors import CheckpointError
from engine.families import family_named, family_of
from engine.files import read_json, write_json
from engine.weights import meta_model
from kernels import Int4Weight, Int8Weight

FORMS = ("int8", "bfloat16", "int4")
MANIFEST = "manifest.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")

_SCALE, _INT4, _OFFSET = "|scale", "|int4", "|offset"
_CHANGED = "changed.safetensors"
_GROUP = 64

OnProgress = Callable[[int, int], None]


def encode(name: str, tensor: Tensor, form: str) -> dict[str, Tensor]:
    """`tensor` in one of `FORMS`, as `read` takes it; int4 needs rows of a multiple of 64."""
    if tensor.dim() < 2:
        return {name: tensor.float()}
    if form == "bfloat16":
        return {name: tensor.bfloat16()}
    if form == "int4":
        small = Int4Weight.quantize(tensor, _GROUP, search=True)
        parts = {_INT4: small.packed, _SCALE: small.scales, _OFFSET: small.offsets}
        return {name + suffix: part for suffix, part in parts.items()}
    weight = Int8Weight.quantize(tensor)
    return {name: weight.codes, name + _SCALE: weight.scales[..., None]}


def read(directory: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The manifest, and the changed tensors in float32.

    Raises CheckpointError if a shard is missing or damaged.
    """
    path = directory / MANIFEST
    manifest = read_json(path)
    names = manifest.get("shards")
    if not isinstance(names, dict) or not isinstance(manifest.get("config"), dict):
        raise CheckpointError(f"{path}: no manifest of shards")
    parts: dict[str, Tensor] = {}
    for name, wanted in names.items():
        try:
            content = (directory / Path(name).name).read_bytes()
        except OSError as error:
            raise CheckpointError(f"{directory / name}: missing ({error})") from None
        if hashlib.sha256(content).hexdigest() != wanted:
            raise CheckpointError(f"{directory / name}: damaged; fetch it again")
        try:
            parts |= load(content)
        except SafetensorError as error:
            raise CheckpointError(f"{directory / name}: damaged ({error})") from None
    try:
        return manifest, dict(_decode(parts))
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{directory}: the shards do not fit together ({error})") from None


def _decode(parts: Mapping[str, Tensor]) -> Iterable[tuple[str, Tensor]]:
    for key, part in parts.items():
        name = key.removesuffix(_INT4)
        if key.endswith(_INT4):
            weight = Int4Weight(part, parts[name + _SCALE], parts[name + _OFFSET])
            yield name, weight.dequantize()
        elif not key.endswith((_SCALE, _OFFSET)):
            yield name, part.float() * parts.get(name + _SCALE, 1.0)


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """sha256 of names, shapes and float32 values."""
    return _fingerprint(tensors, tensors.__getitem__)


def fingerprint_of(directory: Path, on_bytes: Callable[[int], object] = lambda _: None) -> str:
    """`fingerprint` of a checkpoint, a tensor in memory at a time; `on_bytes` gets their sizes.

    Raises CheckpointError.
    """
    checkpoint = Checkpoint(directory)

    def tensor(name: str) -> Tensor:
        found = checkpoint.read(name)
        on_bytes(found.nbytes)
        return found

    return _fingerprint(checkpoint.tensors, tensor)


def _fingerprint(names: Iterable[str], tensor: Callable[[str], Tensor]) -> str:
    found = hashlib.sha256()
    for name in sorted(names):
        values = tensor(name).float().contiguous()
        found.update(f"{name} {tuple(values.shape)}\n".encode())
        found.update(values.numpy().data)
    return found.hexdigest()


def apply_delta(
    folder: Path, parent: Path, target: Path, on_progress: OnProgress = lambda _done, _total: None
) -> str:
    """Writes the model of `folder` and `parent` to the new directory `target`.

    The parent's files are linked, or copied where that cannot be, and the changed tensors written
    beside them in float32. `on_progress` gets bytes of tensors done and in all. Returns the
    fingerprint of the result. Raises CheckpointError if a shard is damaged, if `parent` is not the
    model this one was made from, or if what comes out is not what the manifest says.
    """
    manifest, changed = read(folder)
    config = family_of(manifest["config"]).read_config(manifest["config"])
    sources = family_named(config.family).sources(config)
    names = [name for group in sources.values() for name in group]
    known = Checkpoint(parent)
    if absent := [name for name in names if name not in changed and name not in known.tensors]:
        raise CheckpointError(f"{folder}: {absent[0]} is neither there nor in the parent")
    sizes = {name: _num_bytes(known, name) for name in known.tensors}
    done, total = (
        0,
        sum(sizes.values())
        + sum(changed[name].nbytes if name in changed else sizes[name] for name in names),
    )

    def note(num_bytes: int) -> None:
        nonlocal done
        done += num_bytes
        on_progress(min(done, total), total)

    if fingerprint_of(parent, note) != manifest.get("parent"):
        raise CheckpointError(f"{parent} is not the model that {folder.name} was made from")
    target.mkdir()
    kept = {name: known.info(name).shard for name in names if name not in changed}
    for shard in sorted(set(kept.values())):
        _link(parent / shard, target / f"parent-{shard}")
    new = {name: changed[name].contiguous() for name in names if name in changed}
    durable.write(target / _CHANGED, partial(_save, new), is_private=False)
    index = {name: f"parent-{kept[name]}" if name in kept else _CHANGED for name in names}
    write_json(target / "model.safetensors.index.json", {"metadata": {}, "weight_map": index})
    write_json(target / "config.json", manifest["config"])
    for file in TOKENIZER_FILES:
        if (parent / file).exists():
            durable.write(target / file, partial(copyfile, parent / file), is_private=False)
    meta_model(Checkpoint(target), config)
    result = fingerprint_of(target, note)
    if manifest.get("result", result) != result:
        raise CheckpointError(f"{folder}: put together it is not the model that was shipped")
    return result


def _num_bytes(checkpoint: Checkpoint, name: str) -> int:
    info = checkpoint.info(name)
    width = {"F64": 8, "F32": 4}.get(info.dtype, 2)
    return width * torch.Size(info.shape).numel()


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file(tensors, path, {"format": "pt"})


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or one without links
        durable.write(target, partial(copyfile, source), is_private=False)
