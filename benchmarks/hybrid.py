"""What a long context costs, model beside model: prefill, memory, a question on the saved context.

    python -m benchmarks.hybrid --model DIR --model mini [--lengths 8192 65536 262144 1000000]
        [--text BOOK.txt.gz ...] [--folder DIR] [--kv int8] [--beyond] [--threads N]

Each length is read once, in a process of its own, into a context that is saved while it grows;
what that takes is said before it begins. With --folder a killed run goes on where it stood (the
time of reading back what was saved then counts as prefill), and a finished length is not read
again. Memory is the peak of resident pages, mapped files included, once the weights are loaded
(loading has its own in the JSON line). Then the saved context is opened with every checksum, a
question of 32 tokens is read, and 16 tokens are decoded. A model whose layers all see everything
stops at the length it was trained for, unless --beyond.
"""

import argparse
import gzip
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks import machine
from engine.api import ContextPlan, EngineError
from engine.config import Mixer, ModelConfig
from engine.engine import Engine
from engine.families import read_config
from engine.placement.flops import of_model
from mm1cli.models import library
from mm1cli.output.progress import Progress
from mm1cli.output.text import Channel, clock_time

LENGTHS = (8_192, 65_536, 262_144, 1_000_000)
QUESTION_TOKENS, DECODE_TOKENS = 32, 16
TRIAL_TOKENS = 2_048  # read before the first length, to say how long it will take

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """One length of one model; `flop_s` is the rate it reached before, None if unknown."""

    name: str
    directory: Path
    tokens: int
    folder: Path
    texts: tuple[Path, ...]
    threads: int
    flop_s: float | None
    kv: str | None = None  # as `Engine` takes it


def stops_at(config: ModelConfig) -> int | None:
    """Its trained length, and None (any length will do) if some layer of it is linear."""
    linear = any(x.mixer is Mixer.LIGHTNING or x.softmax.window_tokens for x in config.layers)
    return None if linear else config.max_positions


class Journal:
    """Seconds of every chunk, kept on disk, so that a resumed prefill has a time as well."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.chunks: list[Row] = []
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            self.chunks = [json.loads(line) for line in lines if line.endswith("\n")]

    def go_on_from(self, start: int) -> None:
        """Drops the chunks after `start`, which are read again."""
        self.chunks = [chunk for chunk in self.chunks if chunk["last"] <= start]
        text = "".join(json.dumps(chunk) + "\n" for chunk in self.chunks)
        self._path.write_text(text, encoding="utf-8")

    def add(self, first: int, last: int, took_s: float) -> None:
        chunk = {"first": first, "last": last, "s": took_s, "peak_bytes": machine.peak_bytes()}
        self.chunks.append(chunk)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(chunk) + "\n")

    def reaches(self, num_tokens: int) -> bool:
        """Whether it has every chunk of the first `num_tokens` tokens."""
        borders = [0, *(chunk["last"] for chunk in self.chunks)]
        firsts = [*(chunk["first"] for chunk in self.chunks), num_tokens]
        return borders == firsts


def measure(task: Task) -> Row:
    """Reads, saves, opens and asks; see the top of this file."""
    channel = Channel.from_environment(sys.stderr, os.environ)
    engine = Engine(task.directory, threads=task.threads, num_tokens=task.tokens, kv=task.kv)
    ids = token_ids(engine, task.texts, task.tokens + QUESTION_TOKENS)
    task.folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(task.folder / "times.jsonl")
    saved = task.folder / "context"
    if not journal.chunks:  # a context whose time nobody took
        shutil.rmtree(saved, ignore_errors=True)
    product = machine.product_flops(3)
    before = sum(chunk["last"] - chunk["first"] for chunk in journal.chunks)
    flop_s = task.flop_s or _trial(engine, ids)
    left = of_model(engine.config, task.tokens).total * (1 - before / task.tokens)
    what = f"{task.name}, {task.tokens:,} tokens"
    if not journal.reaches(task.tokens):
        done = f", {before:,} read before" if before else ""
        channel.write(f"{what}: about {clock_time(left / flop_s)}{done}\n")
    progress = Progress(channel, time.monotonic, after_s=1.0)
    load_peak_bytes = machine.peak_bytes()
    machine.forget_peak()
    chunk_tokens, last = engine.chunk_tokens, time.perf_counter()
    resumed = False

    def after_chunk(done: int, total: int) -> None:
        nonlocal last, resumed
        now, first = time.perf_counter(), (done - 1) // chunk_tokens * chunk_tokens
        if not resumed:
            journal.go_on_from(first)
            resumed = True
        journal.add(first, done, now - last)
        progress.update(what, done, total, "tokens")
        last = time.perf_counter()

    try:
        built = engine.build_context(
            saved, ContextPlan(ids[: task.tokens]), on_progress=after_chunk
        )
    finally:
        progress.stop()
    if not journal.reaches(task.tokens):
        raise EngineError(f"{task.folder}: the times kept there are not of this run; remove it")
    reused = built.reused_tokens if resumed else 0
    del built
    product = max(product, machine.product_flops(3))
    prefill_s = sum(chunk["s"] for chunk in journal.chunks)
    row: Row = {
        "model": task.name,
        "tokens": task.tokens,
        "trained_tokens": engine.config.max_positions,
        "prefill_s": prefill_s,
        "prefill_tok_s": task.tokens / prefill_s,
        "last_chunks_tok_s": _last_rate(journal.chunks),
        "product_gflop_s": product / 1e9,
        "share_of_product_rate": of_model(engine.config, task.tokens).total / prefill_s / product,
        "peak_bytes": max(chunk["peak_bytes"] for chunk in journal.chunks),
        "load_peak_bytes": load_peak_bytes,
        "saved_bytes": sum(p.stat().st_size for p in saved.rglob("*") if p.is_file()),
        "resumed_after_tokens": reused,
    }
    return row | _ask(engine, saved, ids[task.tokens :])


def _trial(engine: Engine, ids: list[int]) -> float:
    """Operations per second over a short beginning."""
    count = min(TRIAL_TOKENS, len(ids))
    took = machine.seconds(lambda: engine.new_context().extend(ids[:count]))
    return of_model(engine.config, count).total / took


def _last_rate(chunks: Sequence[Row]) -> float:
    """Tokens per second over the last tenth, eight chunks at least: what one more costs there."""
    last = chunks[-max(8, len(chunks) // 10) :]
    tokens: int = last[-1]["last"] - last[0]["first"]
    return tokens / sum(float(chunk["s"]) for chunk in last)


def _ask(engine: Engine, saved: Path, question: list[int]) -> Row:
    began = time.perf_counter()
    context = engine.open_context(saved)
    opened = time.perf_counter()
    fork = context.fork()
    fork.end_of_documents()
    fork.extend(question)
    first = time.perf_counter()
    for _ in range(DECODE_TOKENS):
        assert fork.logits is not None
        fork.extend([int(fork.logits.argmax())])
    ended = time.perf_counter()
    return {
        "open_s": opened - began,
        "question_s": first - opened,
        "decode_tok_s": DECODE_TOKENS / (ended - first),
    }


def token_ids(engine: Engine, texts: Sequence[Path], count: int) -> list[int]:
    """The first `count` tokens of the texts, repeated if they are short; without texts random."""
    if not texts:
        draw = random.Random(0)
        return [draw.randrange(engine.tokenizer.vocab_size) for _ in range(count)]
    ids: list[int] = []
    for path in texts:
        if len(ids) < count:
            ids += engine.tokenizer.encode(_text(path))
    if not ids:
        raise EngineError(f"{texts[0]}: no text to read")
    return (ids * -(-count // len(ids)))[:count]


def _text(path: Path) -> str:
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")


_HEAD = (
    f"{'model':<16} {'tokens':>9} {'tok/s':>7} {'at the end':>10} {'of product':>10} "
    f"{'peak MB':>8} {'saved MB':>8} {'open s':>7} {'question s':>10} {'decode tok/s':>12}"
)


def line(row: Row) -> str:
    start = f"{row['model']:<16.16} {row['tokens']:>9,} "
    if "left_out" in row:
        return f"{start}{row['left_out']}"
    return (
        f"{start}{row['prefill_tok_s']:>7,.0f} {row['last_chunks_tok_s']:>10,.0f} "
        f"{row['share_of_product_rate']:>10.0%} {row['peak_bytes'] / 1e6:>8,.0f} "
        f"{row['saved_bytes'] / 1e6:>8,.0f} {row['open_s']:>7.2f} {row['question_s']:>10.2f} "
        f"{row['decode_tok_s']:>12.1f}"
    )


def short_name(given: str) -> str:
    """`runs/distil/model` is distil."""
    parts = [part for part in Path(given).parts if part not in {"/", "."}]
    return parts[-2] if len(parts) > 1 and parts[-1] == "model" else (parts or [given])[-1]


def run(tasks: Sequence[Task], *, beyond: bool) -> Iterator[Row]:
    """A row for each task, in order; one that cannot be has its reason in `left_out`."""
    rates: dict[str, float] = {}
    for task in tasks:
        config = read_config(task.directory)
        limit = stops_at(config)
        row: Row = {"model": task.name, "tokens": task.tokens}
        if limit is not None and task.tokens > limit and not beyond:
            yield row | {"left_out": f"beyond the {limit:,} it was trained for (--beyond goes on)"}
            continue
        given = replace(task, flop_s=rates.get(task.name))
        try:
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                row = process.submit(measure, given).result()
        except EngineError as error:
            yield row | {"left_out": str(error)}
            continue
        rates[task.name] = of_model(config, task.tokens).total / row["prefill_s"]
        yield row


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="mm1-hybrid-") as made:
        yield Path(made)


def _measure_all(options: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    with _folder(options.folder) as folder:
        tasks = [
            Task(
                name,
                library.ensure(given, lambda *_: None),
                tokens,
                folder / name / str(tokens),
                tuple(options.text),
                options.threads,
                None,
                options.kv,
            )
            for tokens in sorted(options.lengths)
            for given in options.model
            for name in [short_name(given) + (f"+{options.kv}" if options.kv else "")]
        ]
        print(_HEAD)
        for row in run(tasks, beyond=options.beyond):
            rows.append(row)
            print(line(row), flush=True)
            if options.folder is None:  # or four models of a million tokens would fill the disk
                shutil.rmtree(folder / row["model"] / str(row["tokens"]), ignore_errors=True)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", required=True, help="a name or a folder")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--text", type=Path, nargs="*", default=[], help=".txt or .gz, in order")
    parser.add_argument("--folder", type=Path, help="keep contexts and times here, to go on")
    parser.add_argument("--kv", choices=("int8",), help="keys and values in a quarter of the room")
    parser.add_argument("--beyond", action="store_true", help="softmax models past their length")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    try:
        rows = _measure_all(options)
    except KeyboardInterrupt:
        parser.exit(130, "stopped; with --folder the same command goes on from here\n")
    machine.print_result("hybrid", rows)


if __name__ == "__main__":
    main()
