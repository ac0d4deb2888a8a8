"""What training changed, in shards under 16 MiB: a checkpoint is the parent and these.

As int8 each matrix has a float32 scale for every row (under "NAME|scale"), as bfloat16 none;
vectors stay float32. Tensors that are the parent's bit by bit are left out.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, load_file, save_file
from torch import Tensor

SHARD_BYTES = 15 * 2**20
FORMS = ("int8", "bfloat16")
_MANIFEST = "manifest.json"
_SCALE = "|scale"


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """sha256 of names, shapes and float32 values."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name].float().contiguous()
        found.update(f"{name} {tuple(values.shape)}\n".encode())
        found.update(values.numpy().data)
    return found.hexdigest()


def write(model: Path, parent: Path, directory: Path, form: str, facts: Mapping[str, Any]) -> None:
    """Writes what the checkpoint `model` has and `parent` has not; the manifest comes last.

    `form` is one of `FORMS`, `facts` JSON for the manifest.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for old in (*directory.glob("shard-*"), *directory.glob(_MANIFEST)):
        old.unlink()
    before, after = load_file(parent / "model.safetensors"), load_file(model / "model.safetensors")
    small: list[dict[str, Tensor]] = [{}]
    used = 0
    for name, tensor in sorted(after.items()):
        if name in before and torch.equal(before[name], tensor):
            continue
        stored = _stored(name, tensor, form)
        num_bytes = sum(part.nbytes for part in stored.values())
        if used and used + num_bytes > SHARD_BYTES:
            small.append({})
            used = 0
        small[-1] |= stored
        used += num_bytes
    names = {}
    for number, tensors in enumerate(small):
        path = directory / f"shard-{number:02d}.safetensors"
        save_file(tensors, path)
        names[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest = {
        "form": form,
        "parent": fingerprint(before),
        "config": json.loads((model / "config.json").read_text(encoding="utf-8")),
        "shards": names,
        **facts,
    }
    (directory / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def read(directory: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The manifest, and the changed tensors in float32.

    Raises ValueError if a shard is missing or damaged.
    """
    path = directory / _MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        names: dict[str, str] = manifest["shards"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no manifest of shards ({error})") from None
    stored: dict[str, Tensor] = {}
    for name, wanted in names.items():
        try:
            content = (directory / Path(name).name).read_bytes()
        except OSError as error:
            raise ValueError(f"{directory / name}: missing ({error})") from None
        if hashlib.sha256(content).hexdigest() != wanted:
            raise ValueError(f"{directory / name}: damaged; fetch it again")
        stored |= load(content)
    return manifest, {
        name: tensor.float() * stored.get(name + _SCALE, 1.0)
        for name, tensor in stored.items()
        if not name.endswith(_SCALE)
    }


def _stored(name: str, tensor: Tensor, form: str) -> dict[str, Tensor]:
    if tensor.dim() < 2:
        return {name: tensor.float()}
    if form == "bfloat16":
        return {name: tensor.bfloat16()}
    scale = tensor.abs().amax(dim=-1, keepdim=True) / 127
    rounded = (tensor / scale).nan_to_num(0, 0, 0).round().to(torch.int8)
    return {name: rounded, name + _SCALE: scale}
