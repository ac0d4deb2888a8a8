"""Tasks in the style of RULER (arXiv 2404.06654), each at several lengths.

    python -m benchmarks.quality.ruler [--model DIR] [--lengths 1024 4096] [--limit 3]

Definitions and what differs from the paper: ruler_tasks.py. A score is the share of the references
that stand in the answer, for question_answering whether one does; the mean over samples with
Wilson's interval, 95 %. A sample, prompt and answer included, is as near below its
length as its filler allows.
"""

import argparse
import random
import re
from collections.abc import Sequence
from functools import partial

from benchmarks.quality.ask import Frame, answer, frame
from benchmarks.quality.baselines import BM25, FIRST, corpus, first
from benchmarks.quality.command import Command, left_out, main, positive
from benchmarks.quality.haystack import Haystack
from benchmarks.quality.heldout import QUESTIONS, reading
from benchmarks.quality.needle import add_length_options, allowed_lengths
from benchmarks.quality.ruler_tasks import TASKS, Sample, Sources, Task, fit
from benchmarks.quality.stats import wilson
from benchmarks.quality.subject import Subject
from benchmarks.quality.table import Table
from benchmarks.quality.work import Key, Result, Work, digest
from engine.tokenizer import Tokenizer
from mm1cli.retrieval.bm25 import Bm25Index
from mm1cli.retrieval.passages import passages
from mm1cli.retrieval.retriever import NUM_CANDIDATES

VERSION = 1
LENGTHS = (1024, 4096)
LIMIT = 3
NUM_WORDS = 5000
ALL_PASSAGES = 10**6
AVERAGE = "average"


def sources(options: argparse.Namespace) -> Sources:
    text = Haystack(options.shared / "corpora").text
    sentences = [" ".join(part.split()) for part in re.split(r"(?<=[.!?])\s+", text)]
    words = sorted(set(re.findall(r"\b[a-z]{4,9}\b", text[:2_000_000])))
    random.Random(0).shuffle(words)
    questions = reading(options.shared / QUESTIONS, options.seed, ALL_PASSAGES)
    return Sources(sentences, words[:NUM_WORDS], questions)


def sample_frame(tokenizer: Tokenizer, sample: Sample) -> Frame:
    return frame(tokenizer, sample.question, sample.answer_begins)


def make(task: Task, found: Sources, tokenizer: Tokenizer, length: int, seed: int) -> Sample | None:
    def count(sample: Sample) -> int:
        asks = len(sample_frame(tokenizer, sample))
        return asks + len(tokenizer.encode(sample.text)) + task.answer_tokens

    return fit(task, found, count, length, seed)


def measure(subject: Subject, task: Task, sample: Sample) -> Result:
    asks = sample_frame(subject.engine.tokenizer, sample)
    written = answer(subject, sample.text, asks, task.answer_tokens)
    return {"score": task.score(written, sample.references), "written": written}


def build(subjects: Sequence[Subject], options: argparse.Namespace, work: Work) -> Table:
    table = Table("ruler", "Tasks in the style of RULER")
    found = sources(options)
    tasks = [task for task in TASKS if task.name in options.tasks]
    seeds = range(options.seed, options.seed + options.limit)
    for index, subject in enumerate(subjects):
        tokenizer = subject.engine.tokenizer
        lengths = allowed_lengths(subject, options, table)
        work.stage(f"ruler, {subject.name}", len(lengths) * len(tasks) * len(seeds))
        for length in lengths:
            means: list[float] = []
            for task in tasks:
                made = [make(task, found, tokenizer, length, seed) for seed in seeds]
                samples = [sample for sample in made if sample is not None]
                if not samples:
                    table.note(f"{task.name} does not fit {length:,} tokens: left out.")
                    continue
                done = [
                    work.do(_key(subject, task, s, length), partial(measure, subject, task, s))
                    for s in samples
                ]
                condition = {"tokens": f"{length:,}", "task": task.name}
                if results := [result for result in done if result is not None]:
                    values = [result["score"] for result in results]
                    cell = wilson(sum(values), len(values), "score")
                    table.put(condition, "score", subject.name, cell)
                    means.append(cell.value)
                if index == 0 and task.is_found:
                    put_baselines(table, condition, tokenizer, task, samples)
            if means:
                condition = {"tokens": f"{length:,}", "task": AVERAGE}
                cell = wilson(sum(means), len(means), "score")
                table.put(condition, "score", subject.name, cell)
        left_out(table, work, subject.name)
    table.note(
        f"{BM25}: the references stand in the {NUM_CANDIDATES} passages it finds; {FIRST}: they "
        f"stand in these. Neither is an answer, both are the most a reader of them could give. The "
        f"interval of {AVERAGE} is over tasks."
    )
    return table


def put_baselines(
    table: Table,
    condition: dict[str, str],
    tokenizer: Tokenizer,
    task: Task,
    samples: Sequence[Sample],
) -> None:
    scores: dict[str, list[float]] = {BM25: [], FIRST: []}
    for sample in samples:
        cut = passages(corpus({"text": sample.text}))
        for column, chosen in (
            (BM25, Bm25Index(cut).search(sample.question, NUM_CANDIDATES)),
            (FIRST, first(cut, tokenizer)),
        ):
            text = "\n".join(passage.text for passage in chosen)
            scores[column].append(task.score(text, sample.references))
    for column, values in scores.items():
        table.put(condition, "score", column, wilson(sum(values), len(values), "score"))


def _key(subject: Subject, task: Task, sample: Sample, length: int) -> Key:
    return {
        "table": "ruler",
        "version": VERSION,
        "model": subject.engine.fingerprint,
        "task": task.name,
        "tokens": length,
        "sample": digest([sample.text, sample.question, sample.answer_begins]),
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    add_length_options(parser, LENGTHS)
    names = [task.name for task in TASKS]
    parser.add_argument("--tasks", nargs="+", choices=names, default=names)
    parser.add_argument("--limit", type=positive, default=LIMIT, help="samples per task and length")


COMMAND = Command("ruler", __doc__ or "", add_options, build)

if __name__ == "__main__":
    main(COMMAND)
