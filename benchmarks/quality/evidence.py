"""Does the evidence stand among the first passages? The product's ranking beside plain bm25.

    python -m benchmarks.quality.evidence [--model DIR] [--limit 20] [--questions FILE.jsonl]

The model's column is the product's own path: bm25 candidates in the order of the model's judgement.
`bm25 alone` is the search's order; `first 2K tokens only` searches no further than these. Recall@k:
a gold passage is among the first k; MRR: one over the rank of the first gold passage, 0 if it is
not among the candidates. Intervals: Wilson, 95 %. What is gold, and which
questions: heldout.py; the format of FILE.jsonl: `from_file` there.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.quality.baselines import BM25, FIRST, corpus, first
from benchmarks.quality.command import Command, left_out, main, positive
from benchmarks.quality.heldout import (
    MEETINGS,
    QUESTIONS,
    READING,
    Question,
    by_set,
    from_file,
    meetings,
    reading,
)
from benchmarks.quality.stats import wilson
from benchmarks.quality.subject import Subject
from benchmarks.quality.table import Table
from benchmarks.quality.work import Key, Result, Work
from mm1cli.retrieval.bm25 import Bm25Index
from mm1cli.retrieval.passages import Passage, passages
from mm1cli.retrieval.rerank import Reranker
from mm1cli.retrieval.retriever import NUM_CANDIDATES

VERSION = 2
LIMIT = 20
AT = (1, 5)


def gather(options: argparse.Namespace, table: Table) -> list[Question]:
    """The questions of all sets asked for, at most `--limit` of each; notes what is in them."""
    path = options.shared / QUESTIONS
    found: list[Question] = []
    if options.questions is not None:
        found += from_file(options.questions)[: options.limit]
    if READING in options.sets:
        found += reading(path, options.seed)[: options.limit]
    if MEETINGS in options.sets:
        found += meetings(path, options.seed)[: options.limit]
    if not found:
        raise ValueError(f"no question is held out in {path}")
    for name, questions in by_set(found):
        num_seen = sum(question.seen for question in questions)
        table.note(f"{name}: {len(questions)} questions.")
        if num_seen:
            table.note(
                f"{name}: the passages of {num_seen} of them also stand, in another wording of the "
                "prompt, in records that training reads: a trained model may know them."
            )
    return found


def indexed(question: Question) -> tuple[list[Passage], Bm25Index]:
    found = passages(corpus(dict(question.documents)))
    return found, Bm25Index(found)


def by_model(subject: Subject, question: Question) -> Result:
    _, index = indexed(question)
    candidates = index.search(question.text, NUM_CANDIDATES)
    ranked = Reranker(subject.engine).rank(question.text, candidates, lambda *_: None)
    return {"gold": [question.is_gold(one.passage) for one in ranked]}


def by_bm25(question: Question) -> list[bool]:
    _, index = indexed(question)
    return [question.is_gold(p) for p in index.search(question.text, NUM_CANDIDATES)]


def by_first(subject: Subject, question: Question) -> list[bool]:
    found, _ = indexed(question)
    within = Bm25Index(first(found, subject.engine.tokenizer))
    return [question.is_gold(p) for p in within.search(question.text, NUM_CANDIDATES)]


def reciprocal(gold: Sequence[bool]) -> float:
    """1 / the rank of the first gold passage, 0 without one."""
    return next((1 / rank for rank, is_gold in enumerate(gold, 1) if is_gold), 0.0)


def put(table: Table, name: str, column: str, golds: Sequence[Sequence[bool]]) -> None:
    condition = {"questions": name}
    for k in AT:
        hits = sum(any(gold[:k]) for gold in golds)
        table.put(condition, f"recall@{k}", column, wilson(hits, len(golds)))
    mrr = wilson(sum(map(reciprocal, golds)), len(golds), "score")
    table.put(condition, "MRR", column, mrr)


def build(subjects: Sequence[Subject], options: argparse.Namespace, work: Work) -> Table:
    table = Table("evidence", "Evidence: is a passage that answers among the first?")
    questions = gather(options, table)
    for subject in subjects:
        work.stage(f"evidence, {subject.name}", len(questions))
        for name, asked in by_set(questions):
            done = [work.do(_key(subject, q), partial(by_model, subject, q)) for q in asked]
            if golds := [result["gold"] for result in done if result is not None]:
                put(table, name, subject.name, golds)
        left_out(table, work, subject.name)
    for name, asked in by_set(questions):
        put(table, name, BM25, [by_bm25(q) for q in asked])
        put(table, name, FIRST, [by_first(subjects[0], q) for q in asked])
        table.note(
            f"{name}: {_chance(asked):.1%} of the passages are gold, the score of chance @1."
        )
    return table


def _chance(asked: Sequence[Question]) -> float:
    shares = []
    for question in asked:
        found, _ = indexed(question)
        shares.append(sum(map(question.is_gold, found)) / len(found))
    return sum(shares) / len(shares)


def _key(subject: Subject, question: Question) -> Key:
    return {
        "table": "evidence",
        "version": VERSION,
        "model": subject.engine.fingerprint,
        "question": question.text,
        "asked": question.digest,
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    add_question_options(parser, LIMIT)
    sets = (READING, MEETINGS)
    parser.add_argument("--sets", nargs="*", choices=sets, default=sets, help="held-out sets")


def add_question_options(parser: argparse.ArgumentParser, limit: int) -> None:
    parser.add_argument("--limit", type=positive, default=limit, help="questions of each set")
    parser.add_argument("--questions", type=Path, help="more questions, a file of JSON lines")


COMMAND = Command("evidence", __doc__ or "", add_options, build)

if __name__ == "__main__":
    main(COMMAND)
