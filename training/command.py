"""What the commands of all stages share: options, data, the run, the model at its end."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from engine.checkpoint import Checkpoint
from engine.families import read_config
from engine.model import Model
from engine.tokenizer import Tokenizer
from engine.weights import load
from mm1cli.output.progress import Progress
from mm1cli.output.text import Channel
from training import packed
from training.data import Reader, Sequences
from training.data_mixture import ALIGNMENT, Mixture
from training.decontamination import Overlap
from training.device import PRECISIONS, Place, compile_layers
from training.export import write_model
from training.run import Stage, train
from training.schedule import Schedule


@dataclass(frozen=True, slots=True)
class TrainingInputs:
    """The inputs of a stage."""

    parent: Path
    data: Sequences
    held_out: Sequences
    place: Place = field(default_factory=lambda: Place(torch.device("cpu")))

    def load_parent(self) -> Model:
        """A fresh copy in float32 on the CPU, not settled."""
        config = read_config(self.parent)
        device = torch.device("cpu")
        return load(Checkpoint(self.parent), config, device=device, dtype=torch.float32)

    def parent_config(self) -> dict[str, Any]:
        config: dict[str, Any] = json.loads((self.parent / "config.json").read_text("utf-8"))
        return config


@dataclass(frozen=True, slots=True)
class Prepared:
    """A stage, the config.json of the model it trains, and the facts a resumed run must share.

    `compiles`: whether --compile is heeded. It costs more than it gives where no two steps have
    the same shapes.
    """

    stage: Stage
    config: dict[str, Any]
    shared: dict[str, Any]
    compiles: bool = True


_CHANGES = (
    "steps",
    "peak_rate",
    "final_rate",
    "batch_sequences",
    "micro_batch_sequences",
    "sequence_tokens",
    "save_every",
    "evaluate_every",
    "num_held_out",
)
Prepare = Callable[[TrainingInputs, argparse.Namespace], Prepared]


def main(
    description: str,
    presets: Mapping[str, Schedule],
    prepare: Prepare,
    add_options: Callable[[argparse.ArgumentParser], object],
    arguments: Sequence[str] | None = None,
) -> None:
    """Runs a stage and exits; 2 for settings that cannot be, 130 or 143 if told to stop."""
    parser = _parser(description, presets)
    add_options(parser)
    options = parser.parse_args(arguments)
    try:
        stopped_by = run(options, presets[options.preset], prepare)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    if stopped_by is not None:
        parser.exit(128 + stopped_by, "stopped; the same command goes on from here\n")


def run(options: argparse.Namespace, schedule: Schedule, prepare: Prepare) -> int | None:
    """Trains and writes the model to RUN/model; the signal that stopped it, if one did."""
    torch.set_num_threads(options.threads)
    place = Place.choose(options.device, options.precision)
    place.settle()
    changes = {name: getattr(options, name) for name in _CHANGES}
    schedule = replace(schedule, **{name: x for name, x in changes.items() if x is not None})
    began = time.monotonic()
    channel = Channel.from_environment(sys.stderr, os.environ)
    job = TrainingInputs(options.parent, *_read(options, schedule), place)
    channel.write(
        f"{len(job.data):,} sequences of {schedule.sequence_tokens:,} tokens, "
        f"{len(job.held_out):,} held out; {job.data.num_overlapping:,} records repeat evaluation "
        f"texts, {job.data.num_unread:,} are of another shape\n"
    )
    prepared = prepare(job, options)
    if options.compile and prepared.compiles:
        compile_layers(prepared.stage.model)
    inputs = prepared.shared | {"num_sequences": len(job.data)}
    if place.products is not torch.float32:
        inputs["products"] = str(place.products).removeprefix("torch.")
    name = str(prepared.shared["stage"])
    progress = Progress(channel, time.monotonic, after_s=1.0)
    outcome = train(
        prepared.stage,
        job.data,
        job.held_out,
        schedule,
        options.run,
        seed=options.seed,
        inputs=inputs,
        place=place,
        minutes=options.minutes,
        on_progress=lambda done, total: progress.update(name, done, total, "tokens"),
    )
    progress.stop()
    write_model(prepared.stage.model, prepared.config, options.parent, options.run / "model")
    last = outcome.log.read_text(encoding="utf-8").splitlines()[-1]
    channel.write(f"{outcome.step:,} steps in {time.monotonic() - began:,.0f} s; {last}\n")
    return outcome.stopped_by


def _read(options: argparse.Namespace, schedule: Schedule) -> tuple[Sequences, Sequences]:
    if options.packed is not None:
        train_on, judge_on = packed.read(options.packed, schedule.sequence_tokens)
        return train_on, packed.first(judge_on, schedule.num_held_out)
    tokenizer = Tokenizer(options.parent)
    known = Overlap.with_evaluation(options.exclude)
    wanted = min(schedule.steps * schedule.batch_sequences, options.max_sequences)

    def read(held_out: bool, count: int) -> Sequences:
        return Reader(tokenizer, options.seed, held_out, known).read(
            options.text,
            options.qa,
            sequence_tokens=schedule.sequence_tokens,
            num_sequences=count,
            mixture=options.mixture,
            single=options.single,
        )

    return read(False, wanted), read(True, schedule.num_held_out)


def _parser(description: str, presets: Mapping[str, Schedule]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parent", type=Path, required=True, help="the softmax model, a folder")
    parser.add_argument("--run", type=Path, required=True, help="checkpoints, log and result")
    parser.add_argument("--text", type=Path, help="records of text, .jsonl or .jsonl.xz")
    parser.add_argument("--qa", type=Path, help="records of prompt and answer")
    parser.add_argument(
        "--packed", type=Path, help="tokens from training.pack instead of --text and --qa"
    )
    parser.add_argument(
        "--exclude", type=Path, nargs="*", default=[], help="more evaluation texts not to train on"
    )
    parser.add_argument(
        "--mixture",
        type=Mixture.parse,
        help="shares of text, questions and generated tasks, like 35,25,40",
    )
    parser.set_defaults(mixture=ALIGNMENT, single=False)
    parser.add_argument("--preset", choices=sorted(presets), default="cpu")
    parser.add_argument("--steps", type=int, help="instead of the preset's")
    parser.add_argument("--peak-rate", type=float, help="instead of the preset's")
    parser.add_argument("--final-rate", type=float, help="instead of the preset's")
    parser.add_argument("--batch-sequences", type=int, help="in a step, instead of the preset's")
    parser.add_argument(
        "--micro-batch-sequences", type=int, help="in memory at a time, instead of the preset's"
    )
    parser.add_argument("--sequence-tokens", type=int, help="instead of the preset's")
    parser.add_argument("--save-every", type=int, help="steps, instead of the preset's")
    parser.add_argument("--evaluate-every", type=int, help="steps, instead of the preset's")
    parser.add_argument("--num-held-out", type=int, help="sequences, instead of the preset's")
    parser.add_argument("--minutes", type=float, help="end by then, the rate at its end")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="default: the GPU if there is one"
    )
    parser.add_argument(
        "--precision", choices=sorted(PRECISIONS), help="of products; default: bfloat16 on a GPU"
    )
    parser.add_argument("--compile", action="store_true", help="fuse with torch.compile")
    parser.add_argument("--max-sequences", type=int, default=100_000, help="then the data repeat")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser
