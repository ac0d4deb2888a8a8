"""A run on disk: parameters and optimizer in safetensors, the rest in JSON, both or neither.

The tensors are written under a new name and the JSON that points at them is replaced last, so a
kill at any moment leaves the checkpoint before.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from engine import durable

_POINTER = "checkpoint.json"


def save(directory: Path, step: int, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
    """Replaces the checkpoint in `directory`. `facts` must be JSON."""
    directory.mkdir(parents=True, exist_ok=True)
    name = f"checkpoint-{step:08d}.safetensors"
    whole = {key: value.detach().contiguous() for key, value in tensors.items()}
    durable.write(directory / name, lambda part: save_file(whole, part))
    pointer = json.dumps({"step": step, "tensors": name, **facts})
    durable.write(directory / _POINTER, lambda part: part.write_text(pointer, encoding="utf-8"))
    durable.remove_parts(directory)
    for old in directory.glob("checkpoint-*.safetensors*"):
        if old.name != name:
            old.unlink()


def load(directory: Path) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """The facts and tensors saved last, or None. Raises ValueError if they are damaged."""
    path = directory / _POINTER
    if not path.exists():
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        name = facts["tensors"]
        if Path(name).name != name:
            raise ValueError(f"{path}: bad name {name!r}")
        return facts, load_file(directory / name)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged ({error}); start in another folder") from None
