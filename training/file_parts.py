"""Files cut into parts of limited size, each with its sha256, and put together again.

DIR/part-00/manifest.json   names, sizes and hashes, and which piece is in which part
DIR/part-00/0000.bin ...
"""

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from engine import durable

_MANIFEST = "manifest.json"


def split(files: Mapping[str, Path], directory: Path, part_bytes: int, facts: Any) -> int:  # noqa: ANN401
    """Writes `files`, by name, to part-00, part-01, ... under `directory`; returns their number.

    `facts` is JSON that `facts_of` returns. The names have no folder in them.
    """
    manifest: dict[str, Any] = {"facts": facts, "files": {}}
    number, room, count = 0, part_bytes - 2**20, 0  # the manifest has a place in the first
    for name, path in files.items():
        whole, pieces = hashlib.sha256(), []
        with path.open("rb") as file:
            while block := file.read(room):
                part = f"part-{number:02d}/{count:04d}.bin"
                _write(directory / part, block)
                whole.update(block)
                pieces.append({"file": part, "sha256": hashlib.sha256(block).hexdigest()})
                count, room = count + 1, room - len(block)
                if room == 0:
                    number, room = number + 1, part_bytes
        manifest["files"][name] = {"sha256": whole.hexdigest(), "pieces": pieces}
    _write(directory / "part-00" / _MANIFEST, json.dumps(manifest, indent=1).encode())
    return number + (room < part_bytes)


def facts_of(directory: Path) -> dict[str, Any]:
    facts: dict[str, Any] = _manifest(directory)["facts"]
    return facts


def join(directory: Path, target: Path) -> list[str]:
    """Writes every file of `directory` to `target`; returns their names.

    Raises ValueError if a part is missing or not what was written.
    """
    target.mkdir(parents=True, exist_ok=True)
    found = _manifest(directory)["files"]
    for name, entry in found.items():
        if Path(name).name != name:
            raise ValueError(f"{directory}: bad name {name!r}")
        durable.write(target / name, partial(_join, directory, name, entry), is_private=False)
    return list(found)


def _join(directory: Path, name: str, entry: Mapping[str, Any], target: Path) -> None:
    whole = hashlib.sha256()
    with target.open("wb") as file:
        for piece in entry["pieces"]:
            block = _read(directory, piece)
            whole.update(block)
            file.write(block)
    if whole.hexdigest() != entry["sha256"]:
        raise ValueError(f"{directory}: {name} is not what was packed")


def _read(directory: Path, piece: Mapping[str, str]) -> bytes:
    path = directory / piece["file"]
    try:
        block = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: part missing ({error}); carry it too") from None
    if hashlib.sha256(block).hexdigest() != piece["sha256"]:
        raise ValueError(f"{path}: damaged; carry it again")
    return block


def _manifest(directory: Path) -> dict[str, Any]:
    path = directory / "part-00" / _MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a folder of training.pack ({error})") from None
    return manifest


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
