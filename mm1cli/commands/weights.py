"""`mm1 models quantize` and `mm1 models import`: weights in fewer bits, and what that changes."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from engine import model_files
from engine.api import GgufError, PlacementError, open_tokenizer
from engine.model_files import USUAL, Form
from mm1cli.commands.opening import models_dir
from mm1cli.errors import InputError, ModelError, UsageError
from mm1cli.models import library, manifest
from mm1cli.prompts import prompt
from mm1cli.settings import Settings
from mm1cli.sink import Sink

if TYPE_CHECKING:
    from engine.model_files import ScoreError, Written

TEXT_NAME = "measured"  # under mm1cli/prompts
MOST_TOKENS = 2048  # of the text; more would change the numbers little and take long
NUM_WORST = 5


@dataclass(frozen=True, slots=True)
class Measured:
    """What `scores` were measured on."""

    text: str
    scores: "ScoreError"


def quantize(
    name: str,
    target: Path,
    form: str,
    group: int | None,
    settings: Settings,
    sink: Sink,
    stdout: TextIO,
    *,
    check: bool | None,
    text: Path | None,
    as_json: bool,
) -> None:
    """Writes the model to `target` with its matrices in int8 or int4, and says what that changed.

    `check` None measures the change of scores if the models fit into memory.
    """
    located, wanted = library.locate(name, models_dir(settings)), form_named(form, group)
    source = located.path
    if not source.is_dir():
        raise UsageError(
            f"{name} is a GGUF file, which is quantised already: `mm1 models import {name} --to "
            f"{form} -o DIR` writes it in another form"
        )
    sample, named = _text(text)
    if not sample.strip():
        raise InputError(f"{named} has no text to measure on")
    target = target.absolute()
    try:
        written = model_files.quantize(source, target, wanted, _progress(sink, "quantizing"))
    except OSError as error:
        raise ModelError(f"{target} cannot be written: {error.strerror or error}") from error
    library.write_manifest(target, _facts(source, target), written.sha256)
    measured = None
    if check is not False and (reason := _why_not(source, is_asked=check is True)):
        sink.note(f"the change of scores was not measured: {reason}")
    elif check is not False:
        measured = Measured(named, _scores(source, target, sample, sink))
    before = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    _say(target, written, measured, before, stdout, as_json=as_json)


def import_gguf(
    name: str,
    target: Path,
    form: str | None,
    group: int | None,
    settings: Settings,
    sink: Sink,
    stdout: TextIO,
    *,
    as_json: bool,
) -> None:
    """Writes the model of a GGUF file to `target`, in the nearest form or in the one asked for."""
    if form in {None, "float32"} and group is not None:
        raise UsageError("--group is about --to int4")
    wanted = None
    if form is not None:
        wanted = Form.PLAIN if form == "float32" else form_named(form, group)
    source = _gguf_file(name, settings)
    target = target.absolute()
    try:
        written = model_files.import_gguf(source, target, _progress(sink, "converting"), wanted)
    except GgufError as error:
        raise ModelError(f"{source} cannot be read: {error}") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelError(f"{source} cannot be converted: {reason}") from error
    library.write_manifest(
        target, {"name": target.name, "source": str(source.absolute())}, written.sha256
    )
    before = sum(path.stat().st_size for path in model_files.gguf_parts(source))
    _say(target, written, None, before, stdout, as_json=as_json)


def _gguf_file(name: str, settings: Settings) -> Path:
    """The file of that path, or of a model by that name. Raises ModelError."""
    if (path := Path(name).expanduser()).is_file() or path.is_absolute() or name[:1] == ".":
        return path
    path = library.resolve(name, models_dir(settings))
    if path.is_dir():
        raise ModelError(f"{name} is no GGUF file, but a folder that needs no import: {path}")
    return path


def form_named(form: str, group: int | None) -> Form:
    """Of `--to` and `--group`. Raises UsageError."""
    if form not in USUAL:
        raise UsageError(f"--to cannot be {form!r}; see --help")
    if form == "int8":
        if group is not None:
            raise UsageError("--group is about int4; int8 has one scale per row")
        return Form.INT8
    groups = [known.group for known in Form if known.group]
    if group is not None and group not in groups:
        raise UsageError(f"--group is {', '.join(map(str, sorted(groups)))}, not {group}")
    return Form(f"int4/{group}") if group else USUAL[form]


def _text(path: Path | None) -> tuple[str, str]:
    """The text to measure on, and what to call it."""
    if path is None:
        return prompt(TEXT_NAME), f"mm1cli/prompts/{TEXT_NAME}.txt"
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text ({error})") from None


def _why_not(source: Path, *, is_asked: bool) -> str | None:
    """Why scores are not measured; None if they are."""
    if not (source / "tokenizer.json").is_file():
        return f"{source} has no tokenizer.json"
    if is_asked:
        return None
    try:
        model_files.check_score_memory(source, MOST_TOKENS)
    except PlacementError as error:
        return f"{error}; --check measures it all the same"
    return None


def _scores(source: Path, target: Path, text: str, sink: Sink) -> "ScoreError":
    ids = open_tokenizer(source).encode(text)[:MOST_TOKENS]
    if len(ids) < 2:
        raise InputError("the text to measure on has only one token")
    return model_files.score_error(source, target, ids, _progress(sink, "measuring", "tokens"))


def _progress(sink: Sink, stage: str, unit: str = "bytes") -> Callable[[int, int], None]:
    return lambda done, total: sink.progress(stage, done, total, unit)


def _facts(source: Path, target: Path) -> dict[str, str]:
    told = manifest.read(source).facts
    kept = {key: told[key] for key in ("description", "licence") if key in told}
    return kept | {"name": target.name, "source": str(source)}


def _say(
    target: Path,
    written: "Written",
    measured: Measured | None,
    before: int,
    stdout: TextIO,
    *,
    as_json: bool,
) -> None:
    quantization = model_files.facts(target).quantization
    worst = written.worst_first[:NUM_WORST]
    if as_json:
        told: dict[str, Any] = {
            "path": str(target),
            "precision": quantization,
            "bytes": written.num_bytes,
            "bytes_before": before,
            "relative_rms": written.relative_rms,
            "tensors": [
                {"name": e.name, "form": e.form.value, "relative_rms": e.relative_rms}
                for e in written.worst_first
            ],
            "scores": None,
        }
        if measured is not None:
            scores = measured.scores
            told["scores"] = {
                "text": measured.text,
                "tokens": scores.num_tokens,
                "kl": scores.kl,
                "same_top": scores.same_top,
                "perplexity_before": scores.perplexity_before,
                "perplexity_after": scores.perplexity_after,
            }
        stdout.write(json.dumps(told) + "\n")
        return
    stdout.write(
        f"{target}: {quantization}, {written.num_bytes / 1e6:,.1f} MB of weights, "
        f"{before / 1e6:,.1f} MB before\n"
    )
    if written.errors and not written.relative_rms:
        stdout.write(f"rounding: none; {len(written.errors):,} tensors kept every bit\n")
        worst = []
    if worst:
        stdout.write(
            f"rounding: {written.relative_rms:.3%} of the weights (RMS of the difference over "
            f"RMS) in {len(written.errors):,} tensors; the worst:\n"
        )
    for error in worst:
        stdout.write(f"  {error.relative_rms:>8.3%}  {error.form.value:<8}  {error.name}\n")
    if measured is not None:
        scores = measured.scores
        stdout.write(
            f"scores: over {scores.num_tokens:,} tokens of {measured.text} KL {scores.kl:.5f} "
            f"nats, the same likeliest token at {scores.same_top:.1%}, perplexity "
            f"{scores.perplexity_before:.3f} -> {scores.perplexity_after:.3f}\n"
        )
