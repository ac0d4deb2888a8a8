"""The model card: filled from logs, reports and files; what none of them says is not measured."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.config import Mixer, ModelConfig
from engine.quantized.scores import ScoreError
from training.rounding import WeightError

NOT_MEASURED = "Not measured."


@dataclass(frozen=True, slots=True)
class Run:
    """A stage by its log.jsonl. `seconds` are those of its steps, without judging and saving."""

    name: str
    recipe: Mapping[str, Any]
    steps: int
    tokens: int
    flops: int
    seconds: float
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    went_on: bool

    @classmethod
    def read(cls, folder: Path, weights: Path | None = None) -> "Run":
        """Of a run's folder; `weights` is the model that came out of it, to see whether the run
        went on afterwards. Raises ValueError if there is no log of a run."""
        path = folder / "log.jsonl"
        try:
            text = path.read_text(encoding="utf-8")
            lines = [json.loads(x) for x in text.splitlines(keepends=True) if x.endswith("\n")]
            judged = [line["held_out"] for line in lines if "held_out" in line]
            recipe, last = lines[0]["recipe"], lines[-1]
            checkpoint = folder / "checkpoint.json"
            went_on = False
            if weights is not None and checkpoint.exists():
                went_on = checkpoint.stat().st_mtime > weights.stat().st_mtime
            return cls(
                str(recipe["stage"]),
                recipe,
                last["step"],
                last.get("tokens", 0),
                last.get("flops", 0),
                sum(line.get("step_s", 0.0) for line in lines),
                judged[0],
                judged[-1],
                went_on,
            )
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{path}: no log of a run ({error})") from None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a card is filled from; None and empty: not measured, or not known."""

    name: str
    description: str
    licence: str
    parent: Mapping[str, str]
    config: ModelConfig
    num_tensors: int
    num_bytes: int
    forms: str
    weights: WeightError
    scores: ScoreError | None
    runs: Sequence[Run]
    quality: Mapping[str, Any] = field(default_factory=dict)
    data: str = ""
    limits: str = ""


def card(facts: Facts) -> str:
    """Markdown."""
    sections = {
        "Parent": _parent(facts),
        "Licence": f"{facts.licence}. The parent is {facts.parent['licence']}.",
        "What is in it": _contents(facts),
        "Recipe": _recipe(facts.runs),
        "Compute": _compute(facts.runs),
        "Data": _data(facts.data),
        "Results": _results(facts),
        "Limits": _limits(facts),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"# {facts.name}\n\n{facts.description}\n\n{body}\n"


def _parent(facts: Facts) -> str:
    parent = facts.parent
    return (
        f"`{parent['name']}`: {parent['description']}. From {parent['source']}; sha256 of the "
        f"wheel {parent['wheel_sha256']}, of the GGUF in it {parent['gguf_sha256']}."
    )


def _contents(facts: Facts) -> str:
    config = facts.config
    lightning = config.count(Mixer.LIGHTNING)
    always = sum(layer.softmax.sliding_window for layer in config.layers)
    documents = sum(layer.softmax.window_tokens > 0 for layer in config.layers) - always
    error = facts.weights
    return (
        f"{config.num_layers} layers: {lightning} Lightning, {config.num_layers - lightning} "
        f"softmax, of which {always} have a window always and {documents} one for document "
        f"tokens. Here are the {facts.num_tensors} tensors that differ from the parent's, "
        f"{facts.num_bytes / 1e6:.1f} MB as {facts.forms}; `mm1 models pull {facts.name}` puts "
        "them and the parent's together.\n\n"
        f"The rounding changes these matrices by {error.overall:.2%} (RMS of the difference over "
        f"RMS), the worst, `{error.worst_name}`, by {error.worst:.2%}. {_scores(facts.scores)}"
    )


def _scores(scores: ScoreError | None) -> str:
    if scores is None:
        return "What that does to scores was not measured."
    return (
        f"Over {scores.num_tokens:,} held-out tokens it changes the logits by "
        f"{scores.logits:.2%}, and the mean NLL from {scores.nll_before:.4f} to "
        f"{scores.nll_after:.4f} nats (KL {scores.kl:.5f})."
    )


def _recipe(runs: Sequence[Run]) -> str:
    if not runs:
        return "No log of training was given."
    blocks = []
    for run in runs:
        recipe = json.dumps(run.recipe, sort_keys=True)
        planned = run.recipe.get("steps")
        note = "" if planned in {None, run.steps} else f" of {planned:,} that were planned"
        if run.went_on:
            note += "; the run went on after these weights were written"
        blocks.append(f"`{run.name}`, {run.steps:,} steps{note}:\n\n```json\n{recipe}\n```")
    return "\n\n".join(blocks)


def _compute(runs: Sequence[Run]) -> str:
    if not runs:
        return NOT_MEASURED
    lines = ["| stage | tokens | FLOPs | hours of steps |", "|---|---|---|---|"]
    total = ("all", *(sum(getattr(r, x) for r in runs) for x in ("tokens", "flops", "seconds")))
    rows = [(run.name, run.tokens, run.flops, run.seconds) for run in runs]
    for name, tokens, flops, seconds in [*rows, *([total] if len(runs) > 1 else [])]:
        lines.append(f"| {name} | {tokens:,} | {flops:.2e} | {seconds / 3600:.2f} |")
    counted = "FLOPs are counted from shapes, hours are on the clock; judging and saving are out."
    return "\n".join(lines) + f"\n\n{counted}"


def _data(licences: str) -> str:
    if not licences:
        return "No list of the data was given."
    said = "Drawn from these sets (the logs do not say which records):"
    return f"{said}\n\n{licences}"


def _results(facts: Facts) -> str:
    parts = [_judged(run) for run in facts.runs]
    tables = [_table(table, facts) for table in facts.quality.get("tables", [])]
    found = [table for table in tables if table]
    if found:
        machine, when = facts.quality.get("machine", {}), facts.quality.get("date", "")
        parts.append(f"`python -m benchmarks.quality`, {when}, {machine.get('cpu', '')}:")
        parts += found
    else:
        parts.append(f"Quality (benchmarks/quality/quality.md) of {facts.name}: not measured.")
    return "\n\n".join(parts)


def _judged(run: Run) -> str:
    """The measures of a run that are single numbers, at its first and last judging."""
    rows = [
        f"| {key} | {run.before[key]:.4f} | {value:.4f} |"
        for key, value in run.after.items()
        if isinstance(value, float) and isinstance(run.before.get(key), float)
    ]
    head = ["| held out | before | last judged |", "|---|---|---|"]
    later = ", which goes on after these weights" if run.went_on else ""
    return f"Stage `{run.name}`, by its log{later}:\n\n" + "\n".join([*head, *rows])


def _table(table: Mapping[str, Any], facts: Facts) -> str:
    """A table of the quality report, if this model is in it, with all that stands beside it."""
    rows = [row for row in table["rows"] if facts.name in row["results"]]
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row["results"]))
    keys = [key for key in rows[0] if key != "results"]
    lines = [f"**{table['title']}**", "", f"| {' | '.join([*keys, *names])} |"]
    lines.append("|---" * (len(keys) + len(names)) + "|")
    for row in rows:
        cells = [str(row.get(key, "")) for key in keys]
        cells += [_cell(row["results"].get(name)) for name in names]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(result: Mapping[str, Any] | str | None) -> str:
    if result is None or isinstance(result, str):
        return result or "-"
    text = f"{result['value']:.3g}"
    if result.get("low") is not None and result.get("high") is not None:
        text += f" ({result['low']:.3g} to {result['high']:.3g})"
    return f"{text}, n = {result['num']:,}"


def _limits(facts: Facts) -> str:
    known = [
        f"Trained for {facts.config.max_positions:,} positions by its config.json; further is "
        "possible, and only as good as the results above say.",
        "Answers can be wrong; mm1 checks quotes against the source, not what is said about them.",
        "Not measured for safety, bias or other languages than the results name.",
    ]
    return "\n".join(f"- {line}" for line in [*known, *filter(None, [facts.limits])])
