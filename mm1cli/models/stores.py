"""Where other programs keep models on this machine. Looked into, never written to.

The hub's cache (and llama.cpp's, which has its layout since 2026), Ollama, LM Studio, ModelScope,
and the folder of --models-dir. Layouts as these programs leave them on disk.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm1cli.models.scan import Scan, is_file, is_folder, num_bytes, read_json
from mm1cli.models.weights import Weights, weights_in

HUB, LLAMA_CPP, OLLAMA = "hub", "llama.cpp", "Ollama"
LM_STUDIO, MODELSCOPE, FOLDER = "LM Studio", "ModelScope", "folder"

_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_OLLAMA_HOST, _OLLAMA_USER = "registry.ollama.ai", "library"
_OLLAMA_MODEL = "application/vnd.ollama.image.model"
_DEPTH = 3  # folders of --models-dir that lie in each other
_SERVICE = Path("/usr/share/ollama/.ollama/models")  # of Ollama as a service of Linux


@dataclass(frozen=True, slots=True)
class Found:
    """A model in a store. `--model` takes any of `names`, the first is the one to show.

    `path` is a GGUF file, which in Ollama's store has no such ending, or a folder with config.json.
    `sha256` is what the store itself calls the file; `problem` says why it is of no use.
    """

    names: tuple[str, ...]
    store: str
    path: Path
    num_bytes: int
    sha256: str = ""
    problem: str = ""

    @property
    def name(self) -> str:
        return self.names[0]


def walk(scan: Scan, models_dir: Path | None, environ: Mapping[str, str]) -> Iterator[Found]:
    """Every model in every store, headers unread."""
    home = Path.home()
    if models_dir is not None:
        yield from _folder(models_dir, scan)
    for root in hub_caches(environ, home):
        yield from _hub(root, scan)
    for root in _ollama_roots(environ, home):
        yield from _ollama(root, scan)
    for root in _lm_studio_roots(home):
        yield from _published(root, LM_STUDIO, scan)
    modelscope = Path(environ.get("MODELSCOPE_CACHE") or home / ".cache/modelscope/hub")
    yield from _published(modelscope / "models", MODELSCOPE, scan)


def hub_caches(environ: Mapping[str, str], home: Path) -> list[Path]:
    """Where huggingface_hub and llama.cpp look for hub caches, in their order."""
    told = [environ.get(name) for name in ("LLAMA_CACHE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")]
    roots = [Path(path).expanduser() for path in told if path]
    if path := environ.get("HF_HOME"):
        roots.append(Path(path).expanduser() / "hub")
    if path := environ.get("XDG_CACHE_HOME"):
        roots.append(Path(path).expanduser() / "huggingface/hub")
    return list(dict.fromkeys([*roots, home / ".cache/huggingface/hub", home / ".cache/llama.cpp"]))


def snapshot_of(repository: Path) -> Path | None:
    """The snapshot that "main" means, in a `models--ORG--NAME` folder, or the only one."""
    snapshots = [path for path in _plain_entries(repository / "snapshots") if is_folder(path)]
    commit = _ref(repository / "refs/main")
    by_name = {path.name: path for path in snapshots}
    return by_name.get(commit) or (snapshots[0] if len(snapshots) == 1 else None)


def _plain_entries(folder: Path) -> list[Path]:
    return Scan().entries(folder)


def _hub(root: Path, scan: Scan) -> Iterator[Found]:
    here = scan.entries(root)
    for one in weights_in(root, here):  # as llama.cpp had them before 2026
        own = (one.path.stem, one.path.name)
        yield Found(own, LLAMA_CPP, one.path, one.num_bytes, "", one.problem)
    for folder in here:
        kind, _, rest = folder.name.partition("--")
        if kind != "models" or not rest or not is_folder(folder):
            continue
        repository = rest.replace("--", "/", 1)
        refs = {path.name: _ref(path) for path in scan.entries(folder / "refs") if is_file(path)}
        is_begun = False
        for snapshot in scan.folders(folder / "snapshots"):
            commit = snapshot.name
            names = [name for name, target in refs.items() if target == commit]
            short = [commit[:length] for length in (12, 8, 7)]
            bases = [f"{repository}@{rev}" for rev in (*names, *short, commit)]
            if "main" in names or not refs:
                bases.insert(0, repository)
            found = list(_in_snapshot(snapshot, scan))
            is_begun = is_begun or bool(found)
            yield from (
                Found(_named(bases, w, found), HUB, w.path, w.num_bytes, _etag(w.path), w.problem)
                for w in found
            )
        parts = [p for p in scan.entries(folder / "blobs") if p.name.endswith(".incomplete")]
        if parts and not is_begun:
            size = sum(map(num_bytes, parts))
            yield Found((repository,), HUB, folder, size, problem="half fetched: fetch it again")


def _in_snapshot(snapshot: Path, scan: Scan) -> Iterator[Weights]:
    """Files of one quantisation often have a folder of their own."""
    files = scan.entries(snapshot)
    yield from weights_in(snapshot, files)
    for path in files:
        if not path.name.startswith(".") and not path.is_symlink() and is_folder(path):
            inner = weights_in(path, scan.entries(path))
            yield from (one for one in inner if one.is_gguf)


def _named(bases: list[str], one: Weights, all_here: list[Weights]) -> tuple[str, ...]:
    """The base alone where there is nothing else to mean by it, else with the label behind."""
    labels = [w.label for w in all_here if w.is_gguf]
    label = one.label if labels.count(one.label) == 1 else one.path.name.removesuffix(".gguf")
    is_alone = len(all_here) == 1 or not one.is_gguf
    names = bases if is_alone else []
    if one.is_gguf:
        names = [*names, *(f"{base}:{label}" for base in bases)]
    return tuple(names)


def _ref(path: Path) -> str:
    """The commit that a file of refs/ names; "" if it names none."""
    try:
        with path.open("rb") as file:
            text = file.read(100).decode("ascii", "replace").strip()
    except OSError:
        return ""
    return text if _COMMIT.fullmatch(text) else ""


def _etag(path: Path) -> str:
    """What a snapshot's link calls the blob: of large files its sha256. The blob may be a link to
    one whose name is another hash, so links are not followed to their end here."""
    try:
        name = path.readlink().name
    except OSError:
        return ""
    return name if _SHA256.fullmatch(name) else ""


def _ollama_roots(environ: Mapping[str, str], home: Path) -> list[Path]:
    told = environ.get("OLLAMA_MODELS")
    own = Path(told).expanduser() if told else home / ".ollama/models"
    return [own, _SERVICE]


def _ollama(root: Path, scan: Scan) -> Iterator[Found]:
    for host in scan.folders(root / "manifests"):
        for user in scan.folders(host):
            for name in scan.folders(user):
                for manifest in scan.entries(name):
                    parts = (host.name, user.name, name.name)
                    yield from _ollama_model(root, manifest, parts)


def _ollama_model(root: Path, manifest: Path, place: tuple[str, str, str]) -> Iterator[Found]:
    """What one manifest names; nothing where it is of a model that has no GGUF file."""
    host, user, name = place
    where = [host] if host != _OLLAMA_HOST else []
    where += [user] if where or user != _OLLAMA_USER else []
    base, tag = "/".join([*where, name]), manifest.name
    names = (f"{base}:{tag}", *([base] if tag == "latest" else []))
    again = f"`ollama pull {names[0]}` fetches it again"
    try:
        layers: Any = read_json(manifest)["layers"]
        models = [layer for layer in layers if layer["mediaType"] == _OLLAMA_MODEL]
        digests = [(layer["digest"].removeprefix("sha256:"), layer["size"]) for layer in models]
    except (ValueError, KeyError, TypeError, AttributeError):
        yield Found(names, OLLAMA, manifest, 0, problem=f"its manifest cannot be read: {again}")
        return
    for digest, size in digests[:1]:
        if not _SHA256.fullmatch(digest) or type(size) is not int:
            yield Found(names, OLLAMA, manifest, 0, problem=f"its manifest names no blob: {again}")
            return
        blob, problem = root / "blobs" / f"sha256-{digest}", ""
        if not is_file(blob):
            problem = f"its blob sha256-{digest[:12]}... is missing: {again}"
        elif num_bytes(blob) != size:
            problem = f"cut, {num_bytes(blob):,} of {size:,} bytes: {again}"
        elif len(digests) > 1:
            problem = "in several files, which mm1 does not join: serve it with Ollama"
        yield Found(names, OLLAMA, blob, size, digest, problem)


def _lm_studio_roots(home: Path) -> list[Path]:
    roots = []
    pointer = home / ".lmstudio-home-pointer"  # where its home was moved to, one line
    try:
        with pointer.open("rb") as file:
            told = file.read(4096).decode("utf-8", "replace").strip()
        roots += [Path(told) / "models"] if told and "\0" not in told else []
    except OSError:
        pass
    return list(
        dict.fromkeys([*roots, home / ".lmstudio/models", home / ".cache/lm-studio/models"])
    )


def _published(root: Path, store: str, scan: Scan) -> Iterator[Found]:
    """PUBLISHER/REPOSITORY/FILES: LM Studio's layout, and ModelScope's."""
    for publisher in scan.folders(root):
        for folder in scan.folders(publisher):
            found = weights_in(folder, scan.entries(folder))
            base = f"{publisher.name}/{folder.name}"
            for one in found:
                names = _named([base], one, found)
                own = (one.path.name, one.path.name.removesuffix(".gguf")) if one.is_gguf else ()
                yield Found((*names, *own), store, one.path, one.num_bytes, "", one.problem)


def _folder(root: Path, scan: Scan) -> Iterator[Found]:
    """Files and folders of somebody who keeps models in a folder of their own."""
    pending = [(root, 0)]
    while pending:
        folder, level = pending.pop(0)
        files = scan.entries(folder)
        found = weights_in(folder, files)
        for one in found:
            where = one.path.relative_to(root).as_posix()
            names = [where, one.path.name]
            if one.is_gguf:
                names = [where.removesuffix(".gguf"), one.path.stem, *names]
            if where == ".":
                names = [root.name]
            unique = tuple(dict.fromkeys(names))
            yield Found(unique, FOLDER, one.path, one.num_bytes, "", one.problem)
        if level + 1 < _DEPTH and not any(not one.is_gguf for one in found):
            inner = [path for path in files if not path.name.startswith(".") and is_folder(path)]
            pending += [(path, level + 1) for path in inner]
