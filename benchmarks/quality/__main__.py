"""All tables, within a budget of time, written to quality.md and quality.json beside this file.

    python -m benchmarks.quality [--model DIR ...] [--minutes 30] [--with "needle --lengths 1024"]

The minutes are divided evenly; what one table does not need, the next ones share. `--with` gives
one table other options than its own defaults; `--only` names the tables to run. The results so
far are kept: a run that was stopped, or had too few minutes, goes on from there.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import machine
from benchmarks.quality import (
    abstention,
    evidence,
    multikey,
    needle,
    perplexity,
    quotes,
    ruler,
)
from benchmarks.quality.command import (
    Command,
    add_common_options,
    exits,
    models,
    work_for,
)
from benchmarks.quality.haystack import SHARED
from benchmarks.quality.report import Report, Section
from benchmarks.quality.subject import load

COMMANDS: tuple[Command, ...] = (
    perplexity.COMMAND,
    needle.COMMAND,
    multikey.COMMAND,
    ruler.COMMAND,
    evidence.COMMAND,
    quotes.COMMAND,
    abstention.COMMAND,
)
NAMES = tuple(command.name for command in COMMANDS)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = _parser()
    options = parser.parse_args(arguments)
    chosen = [command for command in COMMANDS if command.name in options.only]
    given = dict(_named(parser, words) for words in options.given)
    shared = _shared_words(options)
    began = time.monotonic()
    work = work_for(options)
    with exits(parser, work):
        # All options are read before the work begins: a slip must not cost an hour.
        plans = [
            (command, words, command.parser().parse_args([*shared, *words]))
            for command in chosen
            for words in [given.get(command.name, [])]
        ]
        subjects = load(options.model or ["mini"], options.threads)
        sections = []
        for index, (command, words, plan) in enumerate(plans):
            if options.minutes is not None:  # what is left, in equal parts for what is left
                left = began + 60 * options.minutes - time.monotonic()
                work.until(time.monotonic() + left / (len(plans) - index))
            table = command.build(subjects, plan, work)
            work.close()
            print(table.as_text(), end="\n\n", flush=True)
            sections.append(Section(command.line([*shared, *words]), table))
        report = Report(
            models=models(subjects),
            machine=machine.facts(),
            date=datetime.now(UTC).date().isoformat(),
            command=shlex.join(["python", "-m", "benchmarks.quality", *_as_given(arguments)]),
            seconds=time.monotonic() - began,
            sections=sections,
            remark=options.remark,
        )
        report.write(options.out)
        print(json.dumps(report.as_json()))


def _named(parser: argparse.ArgumentParser, words: str) -> tuple[str, list[str]]:
    name, *rest = shlex.split(words) or [""]
    if name not in NAMES:
        parser.error(f"--with {words!r}: no table {name!r}; there are {', '.join(NAMES)}")
    return name, rest


def _shared_words(options: argparse.Namespace) -> list[str]:
    words = [word for name in options.model or [] for word in ("--model", name)]
    words += ["--seed", str(options.seed)] if options.seed else []
    return words + (["--shared", str(options.shared)] if options.shared != SHARED else [])


def _as_given(arguments: Sequence[str] | None) -> list[str]:
    return list(sys.argv[1:] if arguments is None else arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_common_options(parser)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument(
        "--with", dest="given", action="append", default=[], metavar='"TABLE --OPTION ..."'
    )
    parser.add_argument("--remark", default="", help="what a reader should know of this run")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="of the two files")
    return parser


if __name__ == "__main__":
    main()
