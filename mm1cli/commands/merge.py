"""`mm1 merge`: the files of `mm1 map` as one, and their totals."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from engine import durable
from mm1cli.errors import InputLeftOutError, UsageError
from mm1cli.mapping.merge import Totals, merge
from mm1cli.sink import Sink


def run(
    paths: Sequence[Path], output: Path | None, sink: Sink, stdout: TextIO, *, strict: bool
) -> None:
    """The totals on `stdout`; the documents' lines go to `output`."""
    if output is not None and any(_is_same(output, path) for path in paths):
        raise UsageError(f"-o {output} is one of the files that are merged; name another")
    totals = merge(paths, lambda _: None) if output is None else _written(paths, output)
    stdout.write(json.dumps(totals.as_json()) + "\n")
    wrong = []
    if totals.missing:
        wrong.append(f"shards missing: {', '.join(map(str, totals.missing[:10]))}")
    if totals.unfinished:
        wrong.append(f"not finished: {', '.join(totals.unfinished[:5])}")
    if totals.failed:
        wrong.append(f"{totals.failed:,} documents failed")
    if wrong and strict:
        raise InputLeftOutError(f"--strict: {'; '.join(wrong)}")
    for one in wrong:
        sink.note(one)


def _written(paths: Sequence[Path], output: Path) -> Totals:
    """What was at `output` stays until all is merged."""
    totals = Totals()

    def fill(part: Path) -> None:
        nonlocal totals
        with part.open("w", encoding="utf-8", newline="\n") as file:

            def on_line(told: dict[str, Any]) -> None:
                file.write(json.dumps(told, ensure_ascii=False) + "\n")

            totals = merge(paths, on_line)

    durable.write(output, fill, is_private=False)
    return totals


def _is_same(a: Path, b: Path) -> bool:
    return a.resolve() == b.resolve()
