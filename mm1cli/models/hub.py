"""Files of a repository on the hub, or a mirror of it (HF_ENDPOINT), through huggingface_hub.

What is there, its sizes and hashes are asked of huggingface_hub, which brings endpoint, token and
errors. The bytes are fetched here: huggingface_hub (2.4) begins a file anew after a kill, and does
not hash what it got. Imported by the command that needs it; the extra `hub` installs it.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engine import durable
from mm1cli.errors import ModelError
from mm1cli.models.fetch import OnProgress
from mm1cli.models.pieces import PARTIAL

MISSING = "huggingface_hub is not installed: pip install 'mm1[hub]'"

_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_REPOSITORY = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)
_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 10.0
_MOST_FILES = 10_000


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository; large ones have a `sha256`, small ones git's `blob_id` (sha1)."""

    path: str
    num_bytes: int
    sha256: str = ""
    blob_id: str = ""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Repository:
    """What a revision holds, pinned to its commit."""

    name: str
    commit: str
    licence: str
    files: tuple[RemoteFile, ...]


def why_not() -> str:
    """Why the hub is not to be asked at all; "" if it may be."""
    for variable in _OFFLINE:
        if os.environ.get(variable, "").upper() in {"1", "ON", "YES", "TRUE"}:
            return f"{variable} is set, so the hub is not asked: unset it, or copy the model here"
    return "" if find_spec("huggingface_hub") is not None else MISSING


def is_repository(name: str) -> bool:
    """Whether `name` can be one: ORG/NAME."""
    return _REPOSITORY.fullmatch(name) is not None and not re.search(r"--|\.\.", name)


def look(name: str, revision: str | None) -> Repository:
    """What the repository `name` holds at `revision`, or on its main branch. Raises ModelError."""
    if why := why_not():
        raise ModelError(why)
    with _errors(name if revision is None else f"{name}@{revision}"):
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        api = HfApi(endpoint=_endpoint())
        info = api.model_info(name, revision=revision, timeout=_TIMEOUT_S)
        commit = str(info.sha)
        if not re.fullmatch(r"[0-9a-f]{40,64}", commit):
            raise ModelError(f"{name}: the hub names no commit")
        files = []
        for entry in api.list_repo_tree(name, recursive=True, revision=commit):
            if isinstance(entry, RepoFile):
                sha256 = entry.lfs.sha256 if entry.lfs else ""
                files.append(RemoteFile(entry.path, entry.size, sha256, entry.blob_id))
            if len(files) > _MOST_FILES:
                raise ModelError(f"{name} has over {_MOST_FILES:,} files, not a model's")
        licence = str(getattr(info.card_data, "license", None) or "")
    return Repository(name, commit, licence, tuple(files))


def fetch(
    file: RemoteFile,
    repository: str,
    commit: str,
    folder: Path,
    on_progress: OnProgress,
    before: int = 0,
    total: int | None = None,
) -> Path:
    """Downloads `file` into `folder`, going on with what a stopped run left, and checks its hash.

    `on_progress` counts from `before` to `total` bytes. Raises ModelError; what was fetched stays,
    unless it is wrong.
    """
    total = file.num_bytes if total is None else total
    target, part = folder / file.name, folder / f"{file.name}{PARTIAL}"
    if target.exists():
        target.replace(part)
    digest = _digest(file)
    with part.open("r+b" if part.exists() else "w+b") as output:
        done = 0
        while done < file.num_bytes and (chunk := output.read(_CHUNK_BYTES)):
            digest.update(chunk[: file.num_bytes - done])
            done = min(done + len(chunk), file.num_bytes)
            on_progress("checking", before + done, total)
        output.seek(done)
        output.truncate()
        if done < file.num_bytes:
            for chunk in _stream(file, repository, commit, done):
                done += len(chunk)
                if done > file.num_bytes:
                    break
                output.write(chunk)
                digest.update(chunk)
                on_progress("downloading", before + done, total)
    if done < file.num_bytes:
        raise ModelError(
            f"{repository}: {file.path} was cut at {done:,} of {file.num_bytes:,} bytes; the same "
            "command goes on from there"
        )
    wanted = file.sha256 or file.blob_id
    if done != file.num_bytes or digest.hexdigest() != wanted:
        part.unlink()
        raise ModelError(
            f"{repository}: {file.path} is not what its commit has (hash "
            f"{digest.hexdigest()[:16]}..., expected {wanted[:16]}...); it was removed"
        )
    durable.sync_file(part)
    part.replace(target)
    return target


def _digest(file: RemoteFile) -> Any:  # noqa: ANN401 - hashlib's own class has no public name
    if file.sha256:
        return hashlib.sha256()
    return hashlib.sha1(f"blob {file.num_bytes}\0".encode(), usedforsecurity=False)


def _stream(file: RemoteFile, repository: str, commit: str, start: int) -> Iterator[bytes]:
    """The bytes from `start` on. Raises ModelError."""
    with _errors(repository):
        from huggingface_hub import hf_hub_url

        utils: Any = import_module("huggingface_hub.utils")
        url = hf_hub_url(repository, file.path, revision=commit, endpoint=_endpoint())
        headers = {**utils.build_hf_headers(), "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with utils.get_session().stream(
            "GET", url, headers=headers, follow_redirects=True, timeout=_TIMEOUT_S
        ) as response:
            utils.hf_raise_for_status(response)
            skip = start if response.status_code == 200 else 0  # it sends all of it again
            for chunk in response.iter_bytes():
                if skip < len(chunk):
                    yield chunk[skip:]
                skip = max(skip - len(chunk), 0)


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


@contextmanager
def _errors(what: str) -> Iterator[None]:
    """Whatever goes wrong between here and the hub, in one line."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # the HTTP library's have changed between releases
        raise ModelError(_explain(what, error)) from error


def _explain(what: str, error: Exception) -> str:
    where = _endpoint() or "the hub"
    kind = type(error).__name__
    if kind in {"RepositoryNotFoundError", "GatedRepoError"}:
        gated = "is gated" if kind == "GatedRepoError" else "is not there, or not for everybody"
        return f"{what} {gated} ({where}): check the name, or set HF_TOKEN"
    if kind in {"RevisionNotFoundError", "RemoteEntryNotFoundError", "EntryNotFoundError"}:
        return f"{what} has no such revision or file ({where})"
    reason = " ".join(str(error).split())[:200] or kind
    return (
        f"{what} could not be fetched from {where} ({kind}: {reason}): connect, or set HF_ENDPOINT"
    )


def is_safe(path: str, allowed: Sequence[str]) -> bool:
    """Whether the name of a remote file leads nowhere else and has one of the endings `allowed`."""
    name = path.rpartition("/")[2]
    plain = bool(name) and not name.startswith(".") and "\\" not in name and "\0" not in name
    return plain and ".." not in path.split("/") and name.lower().endswith(tuple(allowed))
