"""Models that travel as what they changed in their parent, and become whole on this machine.

`training.ship` makes their folders; those under mm1cli/models come with mm1.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.api import EngineError
from engine.model_files import apply_delta
from mm1cli.errors import ModelError
from mm1cli.models.fetch import sha256_of

SHIPPED: Final = "manifest.json"
CARD: Final = "MODEL_CARD.md"
PACKAGED: Final = Path(__file__).parent

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class DeltaModel:
    """`sha256` is that of its manifest, which has those of all its files, `files` by name;
    `parent_sha256` that of the GGUF its parent was converted from."""

    name: str
    folder: Path
    description: str
    licence: str
    parent: str
    parent_sha256: str
    sha256: str
    files: dict[str, str]


def in_package() -> list[DeltaModel]:
    """Those that come with mm1, by name; one whose manifest cannot be read is none."""
    found = []
    for path in sorted(PACKAGED.glob(f"*/{SHIPPED}")):
        with suppress(ModelError):
            found.append(read(path.parent))
    return found


def packaged(name: str) -> DeltaModel | None:
    """The one of that name that comes with mm1; no other is read."""
    for path in PACKAGED.glob(f"*/{SHIPPED}"):
        if path.parent.name == name:
            with suppress(ModelError):
                return read(path.parent)
    return None


def is_shipped(folder: Path) -> bool:
    return (folder / SHIPPED).is_file()


def read(folder: Path) -> DeltaModel:
    """What is in `folder`, by its manifest. Raises ModelError."""
    try:
        content = (folder / SHIPPED).read_bytes()
        manifest: Any = json.loads(content)
        made_from = manifest["parent_model"]
        names = {name: entry["sha256"] for name, entry in manifest["files"].items()}
        texts = [manifest[key] for key in ("name", "description", "licence")]
        texts += [made_from["name"], made_from["gguf_sha256"]]
        shards = set(manifest["shards"])
    except (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError):
        raise ModelError(f"{folder}: {SHIPPED} cannot be read; see `training.ship`") from None
    # A name that leads elsewhere would have us write, or read, other people's files.
    plain = all(Path(name).name == name for name in (*names, texts[0]))
    if not plain or not texts[0] or texts[0].startswith(".") or not shards <= names.keys():
        raise ModelError(f"{folder}: {SHIPPED} cannot be read; see `training.ship`")
    name, description, licence, parent, parent_sha256 = (" ".join(str(x).split()) for x in texts)
    sha256 = hashlib.sha256(content).hexdigest()
    return DeltaModel(
        name, folder.absolute(), description, licence, parent, parent_sha256, sha256, names
    )


def facts(model: DeltaModel) -> dict[str, str]:
    """What an installed model remembers of where it came from."""
    return {
        "name": model.name,
        "description": model.description,
        "source": f"{model.parent} and the changes in {model.folder}",
        "licence": model.licence,
        "parent": model.parent,
        "origin": str(model.folder),
        "shipped_sha256": model.sha256,
    }


def install(model: DeltaModel, parent: Path, target: Path, on_progress: OnProgress) -> None:
    """Puts `model` and `parent` together in the new directory `target`.

    Raises ModelError if a file of either is not what was shipped, or the result is not.
    """
    for name, wanted in model.files.items():
        path = model.folder / name
        if not path.is_file() or sha256_of(path) != wanted:
            raise ModelError(f"{path} is missing or not what was shipped: get it again")
    try:
        apply_delta(
            model.folder, parent, target, lambda done, total: on_progress("combining", done, total)
        )
    except EngineError as error:
        raise ModelError(f"{model.name} cannot be put together: {error}") from error
    if (model.folder / CARD).exists():
        shutil.copyfile(model.folder / CARD, target / CARD)
