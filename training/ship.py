"""A trained hybrid as a folder that `mm1 models pull` makes a model of, with its model card.

    python -m training.ship --student RUN/model --parent DIR --out mm1cli/models/NAME
        [--runs RUN ...] [--text text.jsonl.xz] [--int4 PATTERN ...]
        [--quality benchmarks/quality/quality.json]

It holds the tensors that differ from the parent's (engine/weight_delta.py), in int8, config.json,
MODEL_CARD.md, and a manifest with the sha256 of each and of the parent. The parent must be `mini`
as `mm1 models pull` installed it. It is put together once to see that it can be; with --text, what
rounding costs is measured on held-out tokens. Over 40 MB nothing is written; --int4 stores the
tensors whose names fit a pattern, such as '*.output_gate.weight', in half the room.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch

from engine.checkpoint import Checkpoint
from engine.families import family_of
from engine.quantized.scores import ScoreError, score_error
from engine.tokenizer import Tokenizer
from engine.weight_delta import MANIFEST, apply_delta, read
from mm1cli.models import library
from mm1cli.models.delta import CARD
from mm1cli.models.fetch import sha256_of
from mm1cli.models.manifest import read as read_manifest
from training import shards
from training.card import Facts, Run, card
from training.data import Reader
from training.data_mixture import Mixture
from training.rounding import weight_error

MAX_BYTES = 40_000_000
HELD_OUT_SEQUENCES, HELD_OUT_TOKENS = 2, 1024
TRAINING_PAGE = Path(__file__).parents[1] / "docs" / "training.md"


@dataclass(frozen=True, slots=True)
class Shipment:
    """What to ship; `text` holds records to measure rounding on, `int4` patterns of names."""

    student: Path
    parent: Path
    out: Path
    description: str
    licence: str
    runs: tuple[Path, ...] = ()
    quality: Path | None = None
    text: Path | None = None
    int4: tuple[str, ...] = ()
    limits: str = ""


def ship(shipment: Shipment) -> Facts:
    """Writes the folder, replacing one that is there, and returns what its card says.

    Raises ValueError if the parent is not the one that is pinned, or the folder is too large.
    """
    out = shipment.out
    if out.name == library.EMBEDDED or out.name.startswith("."):
        raise ValueError(f"{out.name!r} cannot be the name of a derived model")
    if out.exists() and not (out / MANIFEST).exists():
        raise ValueError(f"{out} is not a folder of this command; choose another")
    parent = _pinned(shipment.parent)
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        facts = _fill(part, shipment, parent)
        shutil.rmtree(out, ignore_errors=True)
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return facts


def _pinned(parent: Path) -> dict[str, str]:
    """Name, source and hashes of the parent. Raises ValueError if it is not whole, or another."""
    told = read_manifest(parent).facts
    if told.get("name") != library.EMBEDDED:
        raise ValueError(f"{parent} is not {library.EMBEDDED!r} as `mm1 models pull` installed it")
    if problems := library.verify_files(parent):
        raise ValueError(f"{parent}: {problems[0]}")
    pins = {"wheel": library.MINI.filename, "wheel_sha256": library.MINI.sha256}
    pins |= {"gguf": library.MINI.member, "gguf_sha256": library.MINI.member_sha256}
    return {key: told[key] for key in ("name", "description", "source", "licence")} | pins


def _fill(part: Path, shipment: Shipment, parent: dict[str, str]) -> Facts:
    form = "int8"

    def form_of(name: str) -> str | None:
        return "int4" if any(fnmatchcase(name, x) for x in shipment.int4) else None

    name = shipment.out.name
    manifest: dict[str, Any] = {"name": name, "description": shipment.description}
    manifest |= {"licence": shipment.licence, "parent_model": parent}
    shards.write(shipment.student, shipment.parent, part, form, manifest, form_of)
    manifest, changed = read(part)
    scores: ScoreError | None = None
    with tempfile.TemporaryDirectory(dir=part.parent, prefix=".ship-") as work:
        whole = Path(work) / name
        manifest["result"] = apply_delta(part, shipment.parent, whole)
        if shipment.text is not None:
            scores = _measure(shipment, whole)
    config = json.dumps(manifest["config"], indent=2) + "\n"
    (part / "config.json").write_text(config, encoding="utf-8")
    facts = Facts(
        name=name,
        description=shipment.description,
        licence=shipment.licence,
        parent=parent,
        config=family_of(manifest["config"]).read_config(manifest["config"]),
        num_tensors=len(changed),
        num_bytes=sum(path.stat().st_size for path in part.glob("shard-*")),
        forms=form + "".join(f", {x} as int4" for x in shipment.int4),
        weights=weight_error(Checkpoint(shipment.student), changed),
        scores=scores,
        runs=_runs(shipment),
        quality=_json(shipment.quality),
        data=licences(TRAINING_PAGE),
        limits=shipment.limits,
    )
    (part / CARD).write_text(card(facts), encoding="utf-8")
    manifest["files"] = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(part.iterdir())
        if path.name != MANIFEST
    }
    (part / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for path in part.iterdir():
        path.chmod(0o644)  # safetensors makes files that nobody else may read
    if (size := folder_bytes(part)) >= MAX_BYTES:
        raise ValueError(
            f"{name} takes {size / 1e6:.1f} MB, more than the {MAX_BYTES / 1e6:.0f} that may be "
            "shipped: keep more tensors the parent's, or store some with --int4"
        )
    return facts


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _measure(shipment: Shipment, whole: Path) -> ScoreError:
    data = Reader(Tokenizer(shipment.parent), 0, held_out=True).read(
        shipment.text,
        None,
        sequence_tokens=HELD_OUT_TOKENS,
        num_sequences=HELD_OUT_SEQUENCES,
        mixture=Mixture(text=1.0, qa=0.0, generated=0.0),
    )
    sequences = [data.at(index)[0] for index in range(len(data))]
    return score_error(shipment.student, whole, sequences)


def _runs(shipment: Shipment) -> list[Run]:
    weights = shipment.student / "config.json"
    own = shipment.student.parent
    if not shipment.runs:
        return [Run.read(own, weights)] if (own / "log.jsonl").exists() else []
    return [Run.read(run, weights if run == own else None) for run in shipment.runs]


def _json(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def licences(page: Path) -> str:
    """The table of data and licences in docs/training.md; "" if it is not there."""
    if not page.exists():
        return ""
    _, _, rest = page.read_text(encoding="utf-8").partition("\n### Licences\n")
    return "\n".join(line for line in rest.splitlines() if line.startswith("|"))


def command(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--student", type=Path, required=True, help="the trained model, a folder")
    parser.add_argument("--parent", type=Path, required=True, help="mini as it is installed")
    parser.add_argument("--out", type=Path, required=True, help="where; its name is the model's")
    parser.add_argument("--description", default="a hybrid made from SmolLM2-135M-Instruct")
    parser.add_argument("--licence", default=library.MINI_FACTS["licence"])
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="all stages, in order")
    parser.add_argument("--text", type=Path, help="records, to measure rounding on held-out ones")
    parser.add_argument("--quality", type=Path, help="quality.json with this model in it")
    parser.add_argument("--int4", nargs="*", default=[], help="patterns of names of tensors")
    parser.add_argument("--limits", default="", help="one more line for the card")
    parser.add_argument("--threads", type=int, default=1)
    options = vars(parser.parse_args(arguments))
    torch.set_num_threads(options.pop("threads"))
    options["runs"], options["int4"] = tuple(options["runs"]), tuple(options["int4"])
    shipment = Shipment(**options)
    try:
        facts = ship(shipment)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    size = folder_bytes(shipment.out) / 1e6
    print(f"{shipment.out}: {facts.num_tensors} tensors, {size:.1f} MB")
    print(f"rounding: weights {facts.weights.overall:.3%}, worst {facts.weights.worst:.3%}")
    if facts.scores is not None:
        found = facts.scores
        print(
            f"{found.num_tokens:,} held-out tokens: logits {found.logits:.3%}, NLL "
            f"{found.nll_before:.4f} -> {found.nll_after:.4f}, KL {found.kl:.6f}"
        )


if __name__ == "__main__":
    command()
