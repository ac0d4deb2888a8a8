"""`mm1 models`: what is there, what it is, fetch it, prove it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from engine import model_files
from mm1cli.errors import ModelError, UsageError
from mm1cli.models import library
from mm1cli.models.delta import CARD
from mm1cli.sink import Sink

CHUNKS = (1, 7, 255, 256, 257, 700)


def show_list(stdout: TextIO, *, as_json: bool) -> None:
    models = library.list_models()
    if as_json:
        rows = [
            {
                "name": m.name,
                "installed": m.installed,
                "path": str(m.path),
                "source": m.source,
                "parent": m.parent,
            }
            for m in models
        ]
        stdout.write(json.dumps({"models": rows}) + "\n")
        return
    width = max(len(model.name) for model in models)
    for model in models:
        state = "installed" if model.installed else "on first use"
        stdout.write(f"{model.name:<{width}}  {state:<12}  {model.description}\n")


def show(name: str, stdout: TextIO, *, as_json: bool) -> None:
    """Facts from config.json and mm1-model.json; no weights are read."""
    path = library.resolve(name)
    config = model_files.facts(path)
    facts: dict[str, object] = {
        "name": name,
        "path": str(path),
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
    facts |= {
        key: value
        for key, value in library.facts(path).items()
        if key in {"description", "licence", "source", "parent"}
    }
    if (path / CARD).exists():
        facts["model_card"] = str(path / CARD)
    if as_json:
        stdout.write(json.dumps(facts) + "\n")
        return
    for key, value in facts.items():
        shown = f"{value:,}" if isinstance(value, int) else value
        stdout.write(f"{key.replace('_', ' '):<17} {shown}\n")


def pull(name: str, stdout: TextIO, sink: Sink) -> None:
    path = library.pull(name, lambda stage, done, total: sink.progress(stage, done, total, "bytes"))
    stdout.write(f"{path}\n")


def verify(name: str, chunks: Sequence[int], stdout: TextIO, *, as_json: bool) -> None:
    """Recomputes recorded outputs where there are some, else checks the files.

    Raises ModelError (exit 7) when something differs.
    """
    if any(chunk < 1 for chunk in chunks):
        raise UsageError("--chunk must be 1 or more")
    path = library.resolve(name)
    if (path / "expected.safetensors").exists():
        _verify_outputs(path, chunks or CHUNKS, stdout, as_json=as_json)
    else:
        _verify_files(path, stdout, as_json=as_json)


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


def _verify_files(path: Path, stdout: TextIO, *, as_json: bool) -> None:
    problems = library.verify_files(path) if (path / library.MANIFEST).exists() else []
    num_tensors = model_files.check_tensors(path)
    if as_json:
        report = {"passed": not problems, "tensors": num_tensors, "problems": problems}
        stdout.write(json.dumps(report) + "\n")
    if problems:
        failed = ModelError(f"{path}: {problems[0]}; `mm1 models pull {path.name}` repairs it")
        failed.is_on_stdout = as_json
        raise failed
    if not as_json:
        stdout.write(f"whole: {num_tensors:,} tensors with the shapes config.json asks\n")
        stdout.write("no expected.safetensors here, so no outputs were recomputed\n")
