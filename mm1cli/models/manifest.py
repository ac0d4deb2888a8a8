"""mm1-model.json: what a model that mm1 put somewhere is, and what its files must be.

A model is a folder with config.json and weights, or one GGUF file: in the folder of its manifest
("gguf" names it), or where another program keeps it ("linked" has path, bytes and sha256).
"""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from engine import durable
from mm1cli.errors import ModelError
from mm1cli.models.fetch import sha256_of

MANIFEST: Final = "mm1-model.json"

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Linked:
    """A file that is not mm1's, used where it lies; never written to and never removed."""

    path: Path
    num_bytes: int
    sha256: str


def facts(folder: Path) -> dict[str, str]:
    """What the model's mm1-model.json says of it, one line each; {} if there is none."""
    try:
        manifest = _read(folder)
    except ValueError:
        return {}
    return {key: " ".join(value.split()) for key, value in manifest.items() if type(value) is str}


def num_parameters(folder: Path) -> int:
    """As noted when the model was installed; 0 if it was not."""
    with contextlib.suppress(ValueError):
        count = _read(folder).get("parameters")
        return count if type(count) is int and count > 0 else 0
    return 0


def linked(folder: Path) -> Linked | None:
    """The file elsewhere that stands for the model in `folder`, if one does."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        entry: Any = _read(folder)["linked"]
        path, size, sha256 = entry["path"], entry["bytes"], entry["sha256"]
        if type(path) is str and type(size) is int and type(sha256) is str:
            return Linked(Path(path), size, sha256)
    return None


def location(folder: Path) -> Path:
    """What the engine opens of the model installed in `folder`: the folder, or a GGUF file."""
    if (elsewhere := linked(folder)) is not None:
        return elsewhere.path
    name = facts(folder).get("gguf", "")
    return folder / name if name and Path(name).name == name else folder


def verify_files(folder: Path) -> list[str]:
    """What is wrong with the model's files, one line each, by its mm1-model.json; [] if nothing."""
    try:
        files = _files(folder)
    except ValueError as error:
        return [str(error)]
    problems = []
    for path, (size_bytes, sha256) in files.items():
        name = path.name if path.parent == folder else str(path)
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif path.stat().st_size != size_bytes:
            problems.append(f"{name} has {path.stat().st_size} bytes, not {size_bytes}")
        elif sha256_of(path) != sha256:
            problems.append(f"{name} has other contents than when it was installed")
    return problems


def is_complete(folder: Path) -> bool:
    """Whether every file is there with its size; nothing is read."""
    try:
        return all(path.stat().st_size == size for path, (size, _) in _files(folder).items())
    except (OSError, ValueError):
        return False


def size_bytes(folder: Path) -> int:
    """Of all files of the model in `folder`."""
    if (elsewhere := linked(folder)) is not None:
        return elsewhere.num_bytes
    return sum(file.stat().st_size for file in folder.glob("*") if file.is_file())


def check_ours(folder: Path) -> None:
    """Raises ModelError if there is anything in `folder` that mm1 did not put there."""
    if why := why_foreign(folder):
        raise ModelError(f"{why}: move it away, then pull again")


def why_foreign(folder: Path) -> str:
    """What in `folder` is not a model's that mm1 installed; "" if nothing is, or no folder."""
    if not (folder / MANIFEST).exists():
        return f"{folder} was not put there by mm1" if folder.exists() else ""
    others: set[str] = set()
    with contextlib.suppress(ValueError, OSError):  # of a damaged manifest nothing can be said
        own = {MANIFEST, *(path.name for path in _files(folder))}
        others = {path.name for path in folder.iterdir()} - own
    return f"{folder} holds {min(others)}, which mm1 did not put there" if others else ""


def write_manifest(
    target: Path,
    facts: Mapping[str, object],
    sha256: Mapping[str, str] = _NOTHING,
) -> None:
    """Puts `facts` and the hashes of all files there into the model's mm1-model.json.

    `sha256` has those that are known already.
    """
    files = {
        file.name: {
            "bytes": file.stat().st_size,
            "sha256": sha256.get(file.name) or sha256_of(file),
        }
        for file in sorted(target.iterdir())
    }
    text = json.dumps({**facts, "files": files}, indent=2)
    durable.write(
        target / MANIFEST, lambda part: part.write_text(text, encoding="utf-8"), is_private=False
    )


def _read(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{MANIFEST} is missing: there is nothing to compare with") from None
    except (OSError, ValueError, RecursionError):
        raise ValueError(f"{MANIFEST} cannot be read") from None
    if not isinstance(manifest, dict):
        raise ValueError(f"{MANIFEST} cannot be read")
    return manifest


def _files(folder: Path) -> dict[Path, tuple[int, str]]:
    """Size and sha256 of each file by its path. Raises ValueError."""
    if (elsewhere := linked(folder)) is not None:
        return {elsewhere.path: (elsewhere.num_bytes, elsewhere.sha256)}
    files: Any = _read(folder).get("files")
    try:
        listed = {name: (entry["bytes"], entry["sha256"]) for name, entry in files.items()}
    except (AttributeError, KeyError, TypeError):
        raise ValueError(f"{MANIFEST} cannot be read") from None
    # A name that leads elsewhere would have us read and judge other people's files.
    if not listed or any(Path(name).name != name for name in listed):
        raise ValueError(f"{MANIFEST} cannot be read")
    return {folder / name: entry for name, entry in listed.items()}
