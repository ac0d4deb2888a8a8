"""What the commands of all tables share: options, models, the cache, the printed result."""

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from benchmarks.quality.haystack import SHARED
from benchmarks.quality.subject import Subject, load
from benchmarks.quality.table import Table
from benchmarks.quality.work import Work
from engine.api import EngineError
from mm1cli.errors import Mm1Error
from mm1cli.output.progress import Progress
from mm1cli.output.text import Channel

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "quality" / "results.jsonl"
PROGRESS_AFTER_S = 2.0

Build = Callable[[Sequence[Subject], argparse.Namespace, Work], Table]


@dataclass(frozen=True, slots=True)
class Command:
    """A table: `add_options` says what can be set, `build` measures."""

    name: str
    description: str
    add_options: Callable[[argparse.ArgumentParser], object]
    build: Build
    package: str = "benchmarks.quality"

    def parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(
            prog=f"python -m {self.package}.{self.name}",
            description=self.description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_common_options(parser)
        self.add_options(parser)
        return parser

    def line(self, words: Sequence[str]) -> str:
        """What to type for this table alone."""
        return shlex.join(["python", "-m", f"{self.package}.{self.name}", *words])


def add_common_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", action="append", help="a name or a folder; several stand side by side (mini)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--minutes", type=float, help="begin nothing new after so long")
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder of corpora/ and train/")
    parser.add_argument("--cache", type=Path, default=CACHE, help="results so far, JSON lines")


def positive(text: str) -> int:
    number = int(text.replace(",", "").replace("_", ""))
    if number < 1:
        raise ValueError(text)
    return number


def work_for(options: argparse.Namespace) -> Work:
    channel = Channel.from_environment(sys.stderr, os.environ)
    deadline = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    return Work(options.cache, Progress(channel, time.monotonic, PROGRESS_AFTER_S), deadline)


def models(subjects: Sequence[Subject]) -> list[dict[str, object]]:
    return [
        {
            "name": subject.name,
            "fingerprint": subject.engine.fingerprint,
            "trained_tokens": subject.trained_tokens,
        }
        for subject in subjects
    ]


def main(command: Command, arguments: Sequence[str] | None = None) -> None:
    """Prints the table, then one JSON line. Exits 2 for what cannot be, 130 if interrupted."""
    parser = command.parser()
    options = parser.parse_args(arguments)
    with exits(parser, work_for(options)) as work:
        subjects = load(options.model or ["mini"], options.threads)
        table = command.build(subjects, options, work)
        work.close()
        print(table.as_text())
        facts = {"machine": machine.facts(), "models": models(subjects), "seed": options.seed}
        print(
            json.dumps(
                {
                    "benchmark": f"{command.package}.{command.name}".removeprefix("benchmarks."),
                    **facts,
                    **table.as_json(),
                }
            )
        )


@contextmanager
def exits(parser: argparse.ArgumentParser, work: Work) -> Iterator[Work]:
    """Inside, errors people can act on end the program in one line."""
    try:
        yield work
    except KeyboardInterrupt:
        parser.exit(130, "stopped; the same command goes on from here\n")
    except (ValueError, OSError, EngineError, Mm1Error) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    finally:
        work.close()


def left_out(table: Table, work: Work, what: str) -> None:
    """Says so where the budget of time left something undone."""
    if work.num_left_out:
        table.note(f"{what}: {work.num_left_out:,} items not run, the time was over.")
