"""All stages in one command, within so many minutes, from a folder of `training.pack` alone.

    python -m training.job --data FOLDER --out OUT --minutes 25

The numbers in --stages are shares of the time. After each stage OUT/STAGE has what it changed in
shards under 16 MiB (see `training.shards`), its log and a manifest; OUT/job.jsonl says what was
done when, OUT/work holds checkpoints. Killed, the same command goes on; on a new machine
`--from OUT/align --stages distil` goes on from shards. Where the stages before it have used up the
time, reinforce is left out; the same command, given again, runs it. Needs no network.
"""

import argparse
import gc
import importlib
import json
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from training import encoding, file_parts, pack, shards
from training.assemble import assemble

STAGES = "align:5,distil:9,lengthen:4,read:4,reinforce:3"
_SETUP_S = 20.0  # of a stage, outside its own limit: loading, and writing shards
# What a stage must have to be of use; the others are begun with whatever is left. `reinforce`
# judges greedy answers before and after, and a step of it writes 64.
_LEAST_S = {"reinforce": 60.0}


@dataclass(frozen=True, slots=True)
class Step:
    """A stage, by the name of its module, and its share of the time."""

    name: str
    share: float

    @classmethod
    def parse(cls, text: str) -> "list[Step]":
        """From "align:5,distil:12". Raises ValueError."""
        try:
            entries = [entry.partition(":") for entry in text.split(",") if entry]
            steps = [cls(name, float(share or 1)) for name, _, share in entries]
        except ValueError:
            raise ValueError(f"stages: {text!r} is not like align:5,distil:12") from None
        for step in steps:
            if not step.name.isidentifier() or step.share <= 0:
                raise ValueError(f"stages: {text!r} is not like align:5,distil:12")
        return steps


class TrainingJob:
    """Runs the steps one after the other; see `run`."""

    def __init__(self, options: argparse.Namespace, more: Sequence[str]) -> None:
        self.options, self.more = options, list(more)
        self.out: Path = options.out
        self.work: Path = options.out / "work"
        self.ends = time.monotonic() + 60 * options.minutes

    def run(self) -> None:
        """Raises SystemExit when told to stop, ValueError for folders that cannot be used."""
        steps = Step.parse(self.options.stages)
        self._unpack()
        for step in steps:
            self._tokens(step.name)
        student = self._student()
        for number, step in enumerate(steps):
            done = self.out / step.name / "manifest.json"
            run = self.work / step.name
            if not done.exists():
                left_s = self.ends - time.monotonic()
                share = step.share / sum(later.share for later in steps[number:])
                own_s = left_s * share - _SETUP_S
                least_s = _LEAST_S.get(step.name, own_s)
                if own_s < least_s and not run.exists():
                    self._leave_out(step.name, max(own_s, 0.0), least_s)
                    continue
                minutes = max(own_s, 1.0) / 60
                self._note("begins", stage=step.name, minutes=minutes)
                self._stage(step.name, student, run, minutes)
                self._deliver(step.name, run)
            student = run / "model"
            gc.collect()  # the next stage has need of the GPU's memory
        self._note("ends", left_s=self.ends - time.monotonic())

    def _leave_out(self, name: str, left_s: float, least_s: float) -> None:
        self._note("left out", stage=name, left_s=left_s, least_s=least_s)
        sys.stderr.write(
            f"{name} is left out: {left_s:.0f} s are left for it, and it takes {least_s:.0f} to be "
            "of use; the same command, given again, runs it\n"
        )

    def _tokens(self, name: str) -> Path:
        own = self.work / "inputs" / (name + pack.TOKENS)
        if own.exists():
            return own
        if name == "reinforce":
            raise ValueError(f"{self.options.data} has no prompts; pack it with --for {name}")
        return self.work / "inputs" / (pack.MAIN + pack.TOKENS)

    def _stage(self, name: str, student: Path | None, run: Path, minutes: float) -> None:
        given = ["--parent", self.work / "parent", "--packed", self._tokens(name), "--run", run]
        given += ["--preset", self.options.preset, "--minutes", minutes, *self.more]
        if student is not None:
            given += ["--student", student]
        for stage, _, text in (entry.partition("=") for entry in self.options.only):
            given += shlex.split(text) if stage == name else []
        importlib.import_module(f"training.{name}").command([str(option) for option in given])

    def _deliver(self, name: str, run: Path) -> None:
        began, target = time.monotonic(), self.out / name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run / "log.jsonl", target / "log.jsonl")
        facts = {"stage": name}
        shards.write(run / "model", self.work / "parent", target, self.options.form, facts)
        self._note("delivered", stage=name, seconds=time.monotonic() - began)

    def _unpack(self) -> None:
        """The parent as a checkpoint in float32, and the tokens, in OUT/work."""
        if (self.work / "parent" / "model.safetensors").exists():
            return
        began = time.monotonic()
        inputs = self.work / "inputs"
        names = file_parts.join(self.options.data, inputs)
        tensors = encoding.decode(load_file(inputs / pack.PARENT))
        if shards.fingerprint(tensors) != file_parts.facts_of(self.options.data)["parent"]:
            raise ValueError(f"{self.options.data}: the parent does not come back exactly")
        parent = self.work / "parent.part"
        shutil.rmtree(parent, ignore_errors=True)
        parent.mkdir()
        for name in names:
            if not name.endswith(".safetensors"):
                shutil.copyfile(inputs / name, parent / name)
        save_file(tensors, parent / "model.safetensors", {"format": "pt"})
        parent.rename(self.work / "parent")
        self._note("unpacked", seconds=time.monotonic() - began)

    def _student(self) -> Path | None:
        results: Path | None = self.options.results
        if results is None:
            return None
        assemble(results, self.work / "parent", self.work / "student")
        return self.work / "student"

    def _note(self, event: str, **facts: Any) -> None:  # noqa: ANN401
        line = {"event": event, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **facts}
        with (self.out / "job.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def command(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Further options go to every stage: --compile, --device, --batch-sequences ...",
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of training.pack")
    parser.add_argument("--out", type=Path, required=True, help="results, and work in progress")
    parser.add_argument("--minutes", type=float, required=True, help="for everything")
    parser.add_argument("--stages", default=STAGES, help="default: %(default)s")
    parser.add_argument("--preset", default="gpu")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="STAGE=OPTIONS",
        help="options of one stage: --only 'align=--keep 8:32,18:0'",
    )
    parser.add_argument("--form", choices=shards.FORMS, default="int8", help="of the shards")
    parser.add_argument(
        "--from", dest="results", type=Path, help="shards of an earlier stage to go on from"
    )
    options, more = parser.parse_known_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        TrainingJob(options, more).run()
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    sys.stderr.write(f"done: {options.out}\n")


if __name__ == "__main__":
    command()
