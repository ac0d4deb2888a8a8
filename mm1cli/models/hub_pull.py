"""`mm1 models pull ORG/NAME`: a repository's model in mm1's own folder, checked file by file."""

import fnmatch
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from engine import durable
from mm1cli.errors import ModelError, UsageError
from mm1cli.models import hub, library, manifest
from mm1cli.models.describe import describe
from mm1cli.models.fetch import OnProgress
from mm1cli.models.hub import RemoteFile, Repository
from mm1cli.models.pieces import PARTIAL
from mm1cli.models.sources import put
from mm1cli.models.weights import SHARD, label_of

# Numbers and text. Never pickles (.bin, .pt), which run code when they are read, nor programs.
WEIGHTS = (".safetensors", ".gguf")
SMALL_FILES = (".json", ".jinja", ".txt", ".md", "license")

_MARGIN_BYTES = 50_000_000
_MOST_SMALL_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Wanted:
    """ORG/NAME[@REV][:QUANT] and `--file PATTERN`. Raises UsageError for another name."""

    repository: str
    revision: str | None
    label: str
    pattern: str | None

    @classmethod
    def parse(cls, name: str, pattern: str | None) -> Self:
        base, _, label = name.partition(":")
        repository, _, revision = base.partition("@")
        if not hub.is_repository(repository):
            raise UsageError(f"{name!r:.200} is no name of the hub, such as ORG/NAME@REV:Q4_K_M")
        return cls(repository, revision or None, label, pattern)

    @property
    def name(self) -> str:
        """Without the revision: the name of the model once it is here."""
        return f"{self.repository}:{self.label}" if self.label else self.repository


def pull(wanted: Wanted, on_progress: OnProgress, on_note: Callable[[str], object]) -> Path:
    """Fetches and installs it, and returns what the engine opens. Raises ModelError.

    An installed one is verified and kept, unless another revision is asked for. What a stopped pull
    has fetched is gone on with, if it was of the same commit.
    """
    here = _installed(wanted)
    if here is not None and wanted.revision is None and wanted.pattern is None:
        return here
    repository = hub.look(wanted.repository, wanted.revision)
    files = choose(repository, wanted)
    is_gguf = files[-1].path.lower().endswith(".gguf")
    name = wanted.repository + (f":{label_of(files[-1].name)}" if is_gguf else "")
    with library.pulling(library.folder_of(name), on_progress) as folder:
        target = folder / library.folder_of(name)
        is_same = manifest.read(target).facts.get("revision") == repository.commit
        if is_same and not manifest.verify_files(target):
            return manifest.read(target).location
        manifest.check_ours(target)
        work = folder / f".{target.name}.{repository.commit[:12]}{PARTIAL}"
        for other in folder.glob(f".{target.name}.{'[0-9a-f]' * 12}{PARTIAL}"):
            if other != work:
                durable.remove_folder(other)
        work.mkdir(exist_ok=True)
        _check_room(repository, files, work, on_note)
        _fetch_all(repository, files, work, on_progress)
        _finish(name, repository, files, work, target, on_note)
    return manifest.read(target).location


def choose(repository: Repository, wanted: Wanted) -> list[RemoteFile]:
    """What to fetch, small files first. Raises ModelError, with the choices where there are any."""
    safe = [f for f in repository.files if hub.is_safe(f.path, (*WEIGHTS, *SMALL_FILES))]
    weights = [f for f in safe if f.path.lower().endswith(WEIGHTS)]
    if wanted.pattern is not None:
        weights = [f for f in weights if _matches(f, wanted.pattern)]
    folder = [f for f in weights if f.path.endswith(".safetensors") and "/" not in f.path]
    ggufs = [f for f in weights if f.path.lower().endswith(".gguf")]
    ggufs = [f for f in ggufs if not f.name.lower().startswith("mmproj")]
    has_config = any(f.path == "config.json" for f in safe)
    top = [f for f in safe if f not in weights and "/" not in f.path]
    if folder and has_config and not wanted.label and not (wanted.pattern and ggufs):
        return [*top, *_without_copies(folder)]
    models: dict[str, list[RemoteFile]] = {}
    for file in ggufs:
        matched = SHARD.fullmatch(file.path)
        models.setdefault(matched[1] if matched else file.path, []).append(file)
    if wanted.label:
        models = {
            key: files
            for key, files in models.items()
            if wanted.label.upper() == label_of(files[0].name).upper()
        }
    if len(models) == 1:
        (chosen,) = models.values()
        texts = [f for f in top if f.name.lower().startswith(("license", "readme"))]
        return [*texts, *sorted(chosen, key=lambda file: file.path)]
    raise ModelError(_no_choice(repository, wanted, ggufs, len(models)))


def _no_choice(
    repository: Repository, wanted: Wanted, ggufs: Sequence[RemoteFile], num_matching: int
) -> str:
    labels = list(dict.fromkeys(label_of(file.name) for file in ggufs))
    listed = ", ".join(labels[:20])
    if num_matching > 1 or (wanted.label and labels):
        example = f"{repository.name}:{labels[0]}"
        return f"{repository.name} holds {listed}: choose one, `mm1 models pull {example}`"
    if wanted.pattern is not None:
        return f"{repository.name} holds no weights named like {wanted.pattern!r:.80}"
    if any(f.path.endswith((".bin", ".pt", ".pth")) for f in repository.files):
        return f"{repository.name} holds pickled weights only, which mm1 does not fetch"
    return f"{repository.name} holds no safetensors with a config.json, and no GGUF file"


def _without_copies(files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """Some keep the same weights twice, in shards and as `consolidated.safetensors`."""
    plain = [file for file in files if not file.name.startswith("consolidated")]
    return sorted(plain or files, key=lambda file: file.path)


def _matches(file: RemoteFile, pattern: str) -> bool:
    names = (file.path.lower(), file.name.lower())
    return any(fnmatch.fnmatchcase(name, pattern.lower()) for name in names)


def _installed(wanted: Wanted) -> Path | None:
    with suppress(ModelError):
        found = library.locate_installed(wanted.name)
        if found is not None and not manifest.verify_files(found.folder):
            return found.path
    return None


def _check_room(
    repository: Repository,
    files: Sequence[RemoteFile],
    work: Path,
    on_note: Callable[[str], object],
) -> None:
    if any(f.num_bytes > _MOST_SMALL_BYTES for f in files if not f.path.lower().endswith(WEIGHTS)):
        raise ModelError(f"{repository.name}: a text file of over 256 MB, not a model's")
    if len({file.name for file in files}) < len(files):
        raise ModelError(f"{repository.name}: two of its files have one name; --file chooses")
    total = sum(file.num_bytes for file in files)
    there = sum(path.stat().st_size for path in work.iterdir() if path.is_file())
    free = shutil.disk_usage(work).free
    on_note(
        f"{repository.name}@{repository.commit[:12]}: {len(files)} files, {total / 1e9:,.2f} GB, "
        f"{free / 1e9:,.1f} GB is free"
    )
    if free < total - there + _MARGIN_BYTES:
        raise ModelError(
            f"{repository.name} does not fit: {(total - there) / 1e9:,.2f} GB are to be fetched, "
            f"{free / 1e9:,.2f} GB is free in {work.parent}: free some, or set MM1_DATA_DIR"
        )


def _fetch_all(
    repository: Repository, files: Sequence[RemoteFile], work: Path, on_progress: OnProgress
) -> None:
    total = sum(file.num_bytes for file in files)
    done, is_checked = 0, False
    for file in files:
        if file.path.endswith(".safetensors") and not is_checked:
            is_checked = True
            if problem := describe(work).problem:  # config.json is here, the large files are not
                durable.remove_folder(work)
                raise ModelError(f"{repository.name}: {problem}")
        hub.fetch(file, repository.name, repository.commit, work, on_progress, done, total)
        done += file.num_bytes


def _finish(
    name: str,
    repository: Repository,
    files: Sequence[RemoteFile],
    work: Path,
    target: Path,
    on_note: Callable[[str], object],
) -> None:
    names = {file.name for file in files}
    for path in work.iterdir():  # of a pull of other files, or one that was killed
        if path.name not in names:
            path.unlink()
    weights = sorted(name for name in names if name.lower().endswith(".gguf"))
    told = describe(work / weights[0] if weights else work)
    if told.problem:
        on_note(f"{name}: {told.problem}")
    facts: dict[str, object] = {
        "name": name,
        "description": repository.name,
        "source": f"{repository.name}@{repository.commit}",
        "licence": repository.licence,
        "repository": repository.name,
        "revision": repository.commit,
        "parameters": 0 if told.problem else told.num_parameters,
    }
    if weights:
        facts["gguf"] = weights[0]
    hashes = {file.name: file.sha256 for file in files if file.sha256}
    manifest.write_manifest(work, facts, hashes)
    durable.sync_folder(work)
    put(work, target)
