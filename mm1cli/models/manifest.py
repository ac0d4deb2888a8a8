"""mm1-model.json: what a model that mm1 put somewhere is, and what its files must be.

A model is a folder with config.json and weights, or one GGUF file: in the folder of its manifest
("gguf" names it), or where another program keeps it ("linked" has path, bytes and sha256).
"""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
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


@dataclass(frozen=True)
class Manifest:
    """The mm1-model.json of the model in `folder`, read once. `problem` says why `content` is
    empty, "" if it is not."""

    folder: Path
    content: Mapping[str, Any]
    problem: str = ""

    @cached_property
    def facts(self) -> dict[str, str]:
        """What it says of the model, one line each."""
        texts = ((key, value) for key, value in self.content.items() if type(value) is str)
        return {key: " ".join(value.split()) for key, value in texts}

    @property
    def num_parameters(self) -> int:
        """As noted when the model was installed; 0 if it was not."""
        count = self.content.get("parameters")
        return count if type(count) is int and count > 0 else 0

    @cached_property
    def linked(self) -> Linked | None:
        """The file elsewhere that stands for the model, if one does."""
        with contextlib.suppress(KeyError, TypeError):
            entry: Any = self.content["linked"]
            path, size, sha256 = entry["path"], entry["bytes"], entry["sha256"]
            if type(path) is str and type(size) is int and type(sha256) is str:
                return Linked(Path(path), size, sha256)
        return None

    @property
    def location(self) -> Path:
        """What the engine opens of the model: the folder, or a GGUF file."""
        if self.linked is not None:
            return self.linked.path
        name = self.facts.get("gguf", "")
        return self.folder / name if name and Path(name).name == name else self.folder

    @property
    def is_complete(self) -> bool:
        """Whether every file is there with its size; nothing is read."""
        try:
            return all(path.stat().st_size == size for path, (size, _) in self.files().items())
        except (OSError, ValueError):
            return False

    @property
    def size_bytes(self) -> int:
        """Of all files of the model."""
        if self.linked is not None:
            return self.linked.num_bytes
        return sum(file.stat().st_size for file in self.folder.glob("*") if file.is_file())

    def files(self) -> dict[Path, tuple[int, str]]:
        """Size and sha256 of each file by its path. Raises ValueError."""
        if self.problem:
            raise ValueError(self.problem)
        if self.linked is not None:
            return {self.linked.path: (self.linked.num_bytes, self.linked.sha256)}
        files: Any = self.content.get("files")
        try:
            listed = {name: (entry["bytes"], entry["sha256"]) for name, entry in files.items()}
        except (AttributeError, KeyError, TypeError):
            raise ValueError(f"{MANIFEST} cannot be read") from None
        # A name that leads elsewhere would have us read and judge other people's files.
        if not listed or any(Path(name).name != name for name in listed):
            raise ValueError(f"{MANIFEST} cannot be read")
        return {self.folder / name: entry for name, entry in listed.items()}


def read(folder: Path) -> Manifest:
    """Of the model in `folder`, whether or not there is one."""
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        return Manifest(folder, {}, f"{MANIFEST} is missing: there is nothing to compare with")
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        return Manifest(folder, {}, f"{MANIFEST} cannot be read")
    return Manifest(folder, content)


def verify_files(folder: Path) -> list[str]:
    """What is wrong with the model's files, one line each, by its mm1-model.json; [] if nothing."""
    try:
        files = read(folder).files()
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
        own = {MANIFEST, *(path.name for path in read(folder).files())}
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
