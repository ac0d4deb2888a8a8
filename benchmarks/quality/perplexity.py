"""Likelihood of text no model here was trained on, in windows and along one long book.

    python -m benchmarks.quality.perplexity [--model DIR] [--windows 1024 4096] [--curve 8192]

`text` and `questions` are the records that training holds out, packed as training packs them, and
`answers` the answer tokens of the latter; `book` is cut from the books kept for judging. Every
window is read from an empty context. The curve reads the beginning of a book in one context and
gives the mean at each doubling. nats: -log p per token; intervals: 1.96 standard errors over
windows, or over blocks of 128 tokens for the curve. Perplexity compares models of one tokenizer.
"""

import argparse
import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from benchmarks.quality.command import Command, left_out, main, positive
from benchmarks.quality.haystack import Haystack
from benchmarks.quality.heldout import QUESTIONS, TEXT
from benchmarks.quality.stats import Estimate, normal_mean
from benchmarks.quality.subject import Subject
from benchmarks.quality.table import Table
from benchmarks.quality.work import Result, Work, digest
from training.data import Reader

VERSION = 1
WINDOWS = (1024, 4096)
NUM_WINDOWS = 4
CURVE_TOKENS = 8192
SHORTEST_TOKENS = 512  # where the curve begins to be told apart
BLOCK_TOKENS = 128

Window = tuple[list[int], list[bool]]  # ids, and which of them are an answer


def windows(
    subject: Subject, shared: Path, source: str, length: int, count: int, seed: int
) -> list[Window]:
    """Up to `count` windows of a source. Raises ValueError, with the reason, if there is none."""
    tokenizer = subject.engine.tokenizer
    if source == "book":
        ids = Haystack(shared / "corpora").token_ids(tokenizer, length * count)
        starts = range(0, length * count, length)
        return [(ids[start : start + length], [False] * length) for start in starts]
    paths = {"text": (shared / TEXT, None), "questions": (None, shared / QUESTIONS)}
    found = Reader(tokenizer, seed, held_out=True).read(
        *paths[source], sequence_tokens=length, num_sequences=count
    )
    rows = zip(found.token_ids.tolist(), found.is_answer.tolist(), strict=True)
    return [(ids, flags) for ids, flags in rows]


def score(subject: Subject, window: Window) -> Result:
    """Mean -log p of all tokens but the first, and of the answer tokens where there are some."""
    ids, is_answer = window
    nats = _nats(subject, ids)
    answers = [x for x, flag in zip(nats, is_answer[1:], strict=True) if flag]
    return {"nats": fmean(nats), "answer_nats": fmean(answers) if answers else None}


def curve(subject: Subject, ids: Sequence[int]) -> Result:
    """Mean -log p of each block of 128 tokens of one text, the first token left out."""
    nats = _nats(subject, ids)
    return {
        "blocks": [fmean(nats[at : at + BLOCK_TOKENS]) for at in range(0, len(nats), BLOCK_TOKENS)]
    }


def _nats(subject: Subject, ids: Sequence[int]) -> list[float]:
    context = subject.engine.new_context()
    context.extend(ids[:1])
    found: list[float] = []
    context.extend(ids[1:], on_scores=lambda scores: found.extend((-scores.log_p).tolist()))
    return found


def spans(num_tokens: int) -> list[tuple[int, int]]:
    """0 to 512, then doublings, to `num_tokens`."""
    borders = [0]
    while borders[-1] < num_tokens:
        borders.append(min(max(2 * borders[-1], SHORTEST_TOKENS), num_tokens))
    return list(pairwise(borders))


def build(subjects: Sequence[Subject], options: argparse.Namespace, work: Work) -> Table:
    table = Table("perplexity", "Perplexity of text that was held out")
    for subject in subjects:
        plan = options.windows
        work.stage(f"perplexity, {subject.name}", 3 * len(plan) * options.limit + 1)
        for source in ("text", "questions", "book"):
            for length in plan:
                _put_windows(table, subject, source, length, options, work)
        _put_curve(table, subject, options, work)
        left_out(table, work, subject.name)
    return table


def _put_windows(
    table: Table,
    subject: Subject,
    source: str,
    length: int,
    options: argparse.Namespace,
    work: Work,
) -> None:
    if subject.is_beyond(length):
        table.note(f"{subject.beyond(f'a window of {length:,} tokens')}: run all the same.")
    try:
        found = windows(subject, options.shared, source, length, options.limit, options.seed)
    except ValueError as error:
        table.note(f"{source}, {length:,} tokens: {NO_TEXT.get(source, error)}")
        return
    results = []
    for window in found:
        key = {
            "table": "perplexity",
            "version": VERSION,
            "model": subject.engine.fingerprint,
            "source": source,
            "tokens": length,
            "text": digest(window),
        }
        if result := work.do(key, partial(score, subject, window)):
            results.append(result)
    condition = {"source": source, "tokens": f"{length:,}"}
    put(table, condition, subject.name, [result["nats"] for result in results])
    answers = [r["answer_nats"] for r in results if r["answer_nats"] is not None]
    put(table, condition | {"source": "answers"}, subject.name, answers)


def _put_curve(table: Table, subject: Subject, options: argparse.Namespace, work: Work) -> None:
    num_tokens = options.curve
    if options.within and subject.is_beyond(num_tokens):
        table.note(f"{subject.beyond(f'a curve of {num_tokens:,}')}: cut there.")
        num_tokens = subject.trained_tokens
    elif subject.is_beyond(num_tokens):
        table.note(f"{subject.beyond(f'a curve of {num_tokens:,}')}: run all the same.")
    ids = Haystack(options.shared / "corpora").token_ids(subject.engine.tokenizer, num_tokens)
    key = {
        "table": "perplexity curve",
        "version": VERSION,
        "model": subject.engine.fingerprint,
        "tokens": num_tokens,
        "text": digest(ids),
    }
    if result := work.do(key, partial(curve, subject, ids)):
        blocks = result["blocks"]
        for start, end in spans(num_tokens):
            here = blocks[start // BLOCK_TOKENS : -(-end // BLOCK_TOKENS)]
            condition = {"source": "curve", "tokens": f"{start:,}-{end:,}"}
            put(table, condition, subject.name, here)


def put(table: Table, condition: dict[str, str], name: str, nats: Sequence[float]) -> None:
    if not nats:
        return
    mean = normal_mean(nats, "nats")
    table.put(condition, "nats", name, mean)
    low, high = (None if x is None else _exp(x) for x in (mean.low, mean.high))
    table.put(condition, "perplexity", name, Estimate(_exp(mean.value), low, high, mean.num, "ppl"))


def _exp(nats: float) -> float:
    return math.exp(min(nats, 700.0))


NO_TEXT = {
    "text": "no record is held out by the rule of training/data.py, or too few for one window.",
    "questions": "too few held-out questions for one window.",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--windows", type=positive, nargs="+", default=WINDOWS, help="in tokens")
    parser.add_argument("--limit", type=positive, default=NUM_WINDOWS, help="windows per source")
    parser.add_argument("--curve", type=positive, default=CURVE_TOKENS, help="tokens of the book")
    parser.add_argument(
        "--within", action="store_true", help="end the curve where a model's trained length ends"
    )


COMMAND = Command("perplexity", __doc__ or "", add_options, build)

if __name__ == "__main__":
    main(COMMAND)
