"""What training changed, in shards under 16 MiB: a checkpoint is the parent and these.

`engine.weight_delta` says how they are laid out, and reads them.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from engine.checkpoint import Checkpoint
from engine.weight_delta import FORMS, MANIFEST, encode, fingerprint, fingerprint_of, read

__all__ = ["FORMS", "SHARD_BYTES", "fingerprint", "read", "write"]

SHARD_BYTES = 15 * 2**20


def write(
    model: Path,
    parent: Path,
    directory: Path,
    form: str,
    facts: Mapping[str, Any],
    form_of: Callable[[str], str | None] = lambda _name: None,
) -> None:
    """Writes what the checkpoint `model` has and `parent` has not; the manifest comes last.

    `form` is one of `FORMS`, `facts` JSON for the manifest; `form_of` gives the form of a tensor
    that has another.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for old in (*directory.glob("shard-*"), *directory.glob(MANIFEST)):
        old.unlink()
    before, after = Checkpoint(parent), Checkpoint(model)
    small: list[dict[str, Tensor]] = [{}]
    used = 0
    for name in sorted(after.tensors):
        tensor = after.read(name)
        if name in before.tensors and torch.equal(before.read(name), tensor):
            continue
        parts = encode(name, tensor, form_of(name) or form)
        num_bytes = sum(part.nbytes for part in parts.values())
        if used and used + num_bytes > SHARD_BYTES:
            small.append({})
            used = 0
        small[-1] |= parts
        used += num_bytes
    names = {}
    for number, tensors in enumerate(small):
        path = directory / f"shard-{number:02d}.safetensors"
        save_file(tensors, path)
        names[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest = {
        "form": form,
        "parent": fingerprint_of(parent),
        "config": json.loads((model / "config.json").read_text(encoding="utf-8")),
        "shards": names,
        **facts,
    }
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
