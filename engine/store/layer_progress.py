"""How far a layer-major build has come: which layers are done, and checksums of what they left.

`layers/layers.json` is replaced whole after each layer, when all it stands on is on disk. Nothing
in it names a file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from engine import durable
from engine.errors import ConfigError, StoreError
from engine.store import checked_json
from engine.store.checked_json import checked_hash, checked_int
from engine.store.manifest import MAX_TOKENS, Compatibility

FOLDER = "layers"

_NAME = "layers.json"
_FORMAT = "mm1 layers of a context"
_MAX_LAYERS = 100_000


@dataclass(frozen=True, slots=True)
class LayerProgress:
    """Layers that all tokens from `first_token` on went through; earlier ones were there before.

    `states` are the positions, ascending, whose constant-size states a layer leaves, the last of
    them the end; `dtype` is that of hidden states.
    """

    compatibility: Compatibility
    num_tokens: int
    chain: str  # after all tokens
    first_token: int
    states: tuple[int, ...]
    dtype: str
    layers: tuple[str, ...] = ()  # of each finished one, the checksum of its KV or states
    hidden: tuple[str, str] = ("", "")  # checksums of hidden states before and behind the last one

    def write(self, folder: Path) -> None:
        """Into the context's `folder`."""
        body = {
            **self.compatibility.as_json(),
            "num_tokens": self.num_tokens,
            "chain": self.chain,
            "first_token": self.first_token,
            "states": list(self.states),
            "dtype": self.dtype,
            "layers": list(self.layers),
            "hidden": list(self.hidden),
        }
        checked_json.write(folder / FOLDER / _NAME, _FORMAT, body)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """None where there is none. Raises StoreError if it is damaged or impossible."""
        path = folder / FOLDER / _NAME
        if path.parent.is_symlink():
            raise StoreError(f"{path.parent}: no plain folder")
        try:
            body = checked_json.read(path, _FORMAT)
        except FileNotFoundError:
            return None
        try:
            return cls._parse(body)
        except (AttributeError, ConfigError, KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{path}: makes no sense ({error})") from None

    @classmethod
    def _parse(cls, body: Mapping[str, Any]) -> Self:
        num_tokens = checked_int(body["num_tokens"], 1, MAX_TOKENS)
        compatibility = Compatibility.parse(body)
        first_token = checked_int(body["first_token"], 0, num_tokens - 1)
        states = tuple(checked_int(one, first_token + 1, num_tokens) for one in body["states"])
        if list(states) != sorted(set(states)) or states[-1:] != (num_tokens,):
            raise ValueError("states are not in order, or not to the end")
        if any(position % compatibility.chunk_tokens for position in (first_token, *states[:-1])):
            raise ValueError("a position is off the grid")
        layers = tuple(checked_hash(one) for one in body["layers"])
        checked_int(len(layers), 1, _MAX_LAYERS)
        before, behind = (checked_hash(one) for one in body["hidden"])
        dtype = str(body["dtype"])
        chain = checked_hash(body["chain"])
        return cls(
            compatibility, num_tokens, chain, first_token, states, dtype, layers, (before, behind)
        )


def find(folder: Path, goal: LayerProgress, num_layers: int) -> tuple[LayerProgress | None, str]:
    """What of `goal` was done in `folder`, at whichever first token; or None and why not."""
    try:
        found = LayerProgress.read(folder)
    except StoreError as error:
        return None, str(error)
    if found is None:
        return None, ""
    why = goal.compatibility.differs_in(found.compatibility)
    if not why and (found.num_tokens, found.chain) != (goal.num_tokens, goal.chain):
        why = "of other tokens"
    if not why and (found.dtype != goal.dtype or len(found.layers) > num_layers):
        why = "of another model"
    return (None, f"{folder / FOLDER}: {why}") if why else (found, "")


def make_folder(folder: Path) -> None:
    """Makes the place for files of unfinished layers, empty."""
    clear(folder)
    durable.private_folder(folder / FOLDER)


def clear(folder: Path) -> None:
    """Removes what a layer-major build left; for whoever holds the lock of the context."""
    area = folder / FOLDER
    if area.is_symlink():
        area.unlink()
    elif area.is_dir():
        if (area / _NAME).exists():  # first: what it stands on goes after it
            (area / _NAME).unlink()
            durable.sync_folder(area)
        durable.remove_folder(area)


def held_bytes(folder: Path) -> int:
    """What unfinished layers take on disk."""
    area = folder / FOLDER
    if area.is_symlink() or not area.is_dir():
        return 0
    return sum(512 * path.lstat().st_blocks for path in area.iterdir())
