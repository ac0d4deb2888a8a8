"""`mm1 models`: what is there, what it is, fetch it, choose it, prove it, remove it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from engine import model_files
from engine.api import EngineError
from mm1cli.commands.opening import bytes_progress, models_dir
from mm1cli.errors import InputError, ModelError, UsageError
from mm1cli.models import catalogue, default, hub_pull, library, manifest, packaged, removal
from mm1cli.models.delta import CARD
from mm1cli.models.describe import Description, describe
from mm1cli.models.fetch import sha256_of
from mm1cli.models.library import Located
from mm1cli.settings import DEFAULT, Settings
from mm1cli.sink import Sink

CHUNKS = (1, 7, 255, 256, 257, 700)
_TOLD = ("description", "licence", "source", "parent", "revision")


def show(name: str, settings: Settings, stdout: TextIO, *, as_json: bool) -> None:
    """Facts from config.json or the GGUF header, and mm1-model.json; no weights are read."""
    located = library.locate(name, models_dir(settings))
    path = located.path
    facts: dict[str, object] = {"name": name, "path": str(path)}
    header = {} if path.is_dir() else _header_facts(describe(path))
    try:
        config = model_files.facts(path)
    except EngineError:
        if not header:
            raise
        facts |= header  # a GGUF file that is not read here still says what it is
    else:
        facts |= {
            "family": config.family,
            "layers": config.num_layers,
            "lightning_layers": config.num_lightning_layers,
            "softmax_layers": config.num_softmax_layers,
            "delta_layers": config.num_delta_layers,
            "hidden_size": config.hidden_size,
            "heads": config.num_heads,
            "kv_heads": config.num_kv_heads,
            "head_dim": config.head_dim,
            "experts": config.num_experts,
            "vocab_size": config.vocab_size,
            "max_positions": config.max_positions,
        }
        if config.precision is not None:
            facts["precision"] = config.precision
        facts |= {key: header[key] for key in ("parameters", "bytes", "bits") if key in header}
    told = manifest.read(located.folder).facts
    facts |= {key: told[key] for key in _TOLD if key in told}
    if (located.folder / CARD).exists():
        facts["model_card"] = str(located.folder / CARD)
    if as_json:
        stdout.write(json.dumps(facts) + "\n")
        return
    for key, value in facts.items():
        shown = f"{value:,}" if isinstance(value, int) else value
        stdout.write(f"{key.replace('_', ' '):<17} {shown}\n")


def _header_facts(told: Description) -> dict[str, object]:
    if told.problem and not told.family:
        raise ModelError(told.problem)
    facts: dict[str, object] = {
        "family": told.family,
        "parameters": told.num_parameters,
        "max_positions": told.context_tokens,
        "bytes": told.num_bytes,
        "bits": round(told.bits, 2),
    }
    return facts | ({"problem": told.problem} if told.problem else {})


def pull(name: str, pattern: str | None, settings: Settings, stdout: TextIO, sink: Sink) -> None:
    if settings.offline:
        raise UsageError(f"{settings.origin('offline')} allows no fetching, and pull fetches")
    entry, on_progress = catalogue.named(name), bytes_progress(sink)
    if entry is not None and entry.repository and name not in packaged.PACKAGED:
        name = entry.repository
    elif "/" not in name or Path(name).is_dir():
        if pattern is not None:
            raise UsageError(f"--file is about repositories of the hub, and {name!r} is none")
        path = library.pull(name, on_progress, models_dir(settings), sink.note)
        stdout.write(f"{path}\n")
        return
    path = hub_pull.pull(hub_pull.Wanted.parse(name, pattern), on_progress, sink.note)
    stdout.write(f"{path}\n")


def use(name: str, settings: Settings, stdout: TextIO, sink: Sink) -> None:
    """Sets the model of runs that name none; "auto" goes back to the largest that fits."""
    if name == default.AUTO:
        default.use(name)
        choice = default.choose(settings.device)
        stdout.write(f"default: {choice.name} ({choice.why})\n")
    else:
        located = library.locate(name, models_dir(settings))
        if problem := describe(located.path).problem:
            raise ModelError(f"{name}: {problem}")
        default.use(located.name)
        stdout.write(f"default: {located.name}\n")
    if settings.origin("model") != DEFAULT and settings.model != default.AUTO:
        sink.note(f"{settings.origin('model')} says {settings.model}, and that is what runs take")


def remove(names: Sequence[str], settings: Settings, stdout: TextIO) -> None:
    """All of them, or none if one is not mm1's."""
    unique = list(dict.fromkeys(names))
    for name in unique:
        removal.check_removable(name, models_dir(settings))
    for name in unique:
        if not removal.remove(name):
            raise InputError(f"{name}: another mm1 is pulling it; stop that one first")
        stdout.write(f"removed {name}\n")


def verify(
    name: str, chunks: Sequence[int], settings: Settings, stdout: TextIO, *, as_json: bool
) -> None:
    """Recomputes recorded outputs where there are some, else checks the files.

    Raises ModelError (exit 7) when something differs.
    """
    if any(chunk < 1 for chunk in chunks):
        raise UsageError("--chunk must be 1 or more")
    located = library.locate(name, models_dir(settings))
    if (located.path / "expected.safetensors").exists():
        _verify_outputs(located.path, chunks or CHUNKS, stdout, as_json=as_json)
    else:
        _verify_files(name, located, stdout, as_json=as_json)


def _verify_outputs(path: Path, chunks: Sequence[int], stdout: TextIO, *, as_json: bool) -> None:
    result = model_files.verify(path, chunks)
    if as_json:
        rows = [
            {
                "chunk_tokens": d.chunk_tokens,
                "output": d.name,
                "largest_difference": d.largest,
                "largest_value": d.scale,
            }
            for d in result.differences
        ]
        stdout.write(json.dumps({"passed": result.passed, "differences": rows}) + "\n")
    else:
        stdout.write("chunk  output            largest difference  largest value\n")
        for d in result.differences:
            row = f"{d.chunk_tokens:>5}  {d.name:<16}  {d.largest:>18.2e}  {d.scale:>13.4g}"
            stdout.write(f"{row}\n")
    if not result.passed:
        failed = ModelError(f"{path}: logits differ by more than 1e-4 from the recorded ones")
        failed.is_on_stdout = as_json
        raise failed
    if not as_json:
        stdout.write("equal: all logits within 1e-4 of the recorded ones\n")


def _verify_files(name: str, located: Located, stdout: TextIO, *, as_json: bool) -> None:
    path, folder = located.path, located.folder
    has_manifest = (folder / library.MANIFEST).exists()
    problems = library.verify_files(folder) if has_manifest else []
    is_proved = has_manifest
    if not has_manifest and located.sha256:
        is_proved = True
        if sha256_of(path) != located.sha256:
            problems = [f"{path.name} has another sha256 than its store calls it by"]
    num_tensors = model_files.check_tensors(path)
    if as_json:
        report = {"passed": not problems, "tensors": num_tensors, "problems": problems}
        stdout.write(json.dumps(report) + "\n")
    if problems:
        again = f"`mm1 models pull {name}` repairs it" if has_manifest else "fetch it again"
        failed = ModelError(f"{path}: {problems[0]}; {again}")
        failed.is_on_stdout = as_json
        raise failed
    if not as_json:
        hashes = "; every file has its sha256" if is_proved else ""
        asked = "config.json asks" if path.is_dir() else "its metadata asks"
        stdout.write(f"whole: {num_tensors:,} tensors with the shapes {asked}{hashes}\n")
        stdout.write("no expected.safetensors here, so no outputs were recomputed\n")
