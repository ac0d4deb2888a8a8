"""Models as pip, Ollama, hub caches and LM Studio leave them on disk, for tests."""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from mm1cli.errors import ModelError
from mm1cli.models.fetch import wheel_filename
from mm1cli.models.pieces import PackagedModel, Piece

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def packaged(content: bytes, piece_bytes: int, *, num_parameters: int = 10**9) -> PackagedModel:
    """`small` with other contents, in pieces of `piece_bytes`."""
    pieces = [content[i : i + piece_bytes] for i in range(0, len(content), piece_bytes)]
    return PackagedModel(
        name="small",
        description="a tiny one",
        licence="MIT",
        filename="tiny-q8_0.gguf",
        num_bytes=len(content),
        num_parameters=num_parameters,
        sha256=sha256(content),
        repository="Someone/Tiny-GGUF",
        revision=COMMIT,
        project="mm1-tiny-part{}",
        version="1.0",
        pieces=tuple(Piece(len(piece), sha256(piece)) for piece in pieces),
    )


def write_piece_wheels(folder: Path, model: PackagedModel, content: bytes) -> None:
    """The wheels of `model`, with `content` cut where its pieces end."""
    start = 0
    for number, piece in enumerate(model.pieces, start=1):
        write_piece(folder, model, number, content[start : start + piece.num_bytes])
        start += piece.num_bytes


def write_piece(folder: Path, model: PackagedModel, number: int, content: bytes) -> Path:
    package = model.package(number)
    name = f"{package.replace('-', '_')}-{model.version}"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            f"{name}.dist-info/METADATA",
            f"Metadata-Version: 2.1\nName: {package}\nVersion: {model.version}\n",
        )
        archive.writestr(
            f"{name}.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{name}.dist-info/RECORD", "")
        archive.writestr(model.member(number), content)
    return path


def copied_wheel(links: Path) -> Callable[..., Path]:
    """`pip_download` without pip, which takes a second to start: of wheels in `links`."""

    def pip_download(project, version, work, on_bytes, *, is_cached=True):
        wheels = work / "wheels"
        wheels.mkdir()
        path = wheels / wheel_filename(project, version)
        if not (links / path.name).is_file():
            raise ModelError(f"{path.name}: not in {links}")
        on_bytes((links / path.name).stat().st_size)
        return Path(shutil.copyfile(links / path.name, path))

    return pip_download


def write_ollama(root: Path, place: str, content: bytes, **layer: object) -> Path:
    """A model of Ollama's, `place` being HOST/USER/NAME/TAG; returns the blob's path."""
    digest = sha256(content)
    blob = root / "blobs" / f"sha256-{digest}"
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    manifest = root / "manifests" / place
    manifest.parent.mkdir(parents=True, exist_ok=True)
    told = {
        "mediaType": "application/vnd.ollama.image.model",
        "digest": f"sha256:{digest}",
        "size": len(content),
    }
    template = {**told, "mediaType": "application/vnd.ollama.image.template"}
    manifest.write_text(json.dumps({"layers": [template, told | layer]}))
    return blob


def write_hub(
    root: Path,
    repository: str,
    files: Mapping[str, bytes],
    *,
    commit: str = COMMIT,
    is_main: bool = True,
    is_shared: bool = False,
) -> Path:
    """A repository in a hub cache; returns the snapshot. With `is_shared` blobs are links to
    cache-wide ones, as huggingface_hub 2 makes them."""
    folder = root / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / commit
    (folder / "blobs").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        blob = folder / "blobs" / sha256(content)
        if is_shared:
            shared = root / "blobs" / "ab" / sha256(b"xet" + content)
            shared.parent.mkdir(parents=True, exist_ok=True)
            shared.write_bytes(content)
            blob.symlink_to(shared)
        else:
            blob.write_bytes(content)
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    if is_main:
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs/main").write_text(commit)
    return snapshot
