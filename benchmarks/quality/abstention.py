"""Can it be told that the documents do not answer? Questions and twins whose passage was removed.

    python -m benchmarks.quality.abstention [--model DIR] [--limit 20]

A signal is good if it is higher where the question can be answered. AUROC: the chance that it is,
for any question and any twin; bootstrap, 95 %. `above its twin`: the share of questions that score
above their own twin (Wilson 95 %). The signals:
`evidence`: log p(question | best passage), the score the product shows; `evidence over none`: the
same less log p(question | no passage); `refusal`: how unlikely the refusal is that the product's
prompt asks for, after its best passages; `bm25`: the best passage's score in plain search. And how
often the model, asked for an answer, writes the refusal (Wilson 95 %).
"""

import argparse
from collections.abc import Sequence
from functools import partial

from benchmarks.quality.baselines import BM25, FIRST, ScoredIndex, corpus
from benchmarks.quality.command import Command, left_out, main
from benchmarks.quality.evidence import add_question_options, gather
from benchmarks.quality.heldout import READING, Question
from benchmarks.quality.stats import Estimate, bootstrap_auroc, wilson
from benchmarks.quality.subject import Subject
from benchmarks.quality.table import Table
from benchmarks.quality.work import Key, Result, Work
from engine.api import Turn
from mm1cli.ingest.corpus import Corpus
from mm1cli.prompts import prompt
from mm1cli.retrieval.passages import Passage, Ranked, passages
from mm1cli.retrieval.rerank import Reranker
from mm1cli.retrieval.retriever import NUM_CANDIDATES, NUM_PASSAGES

VERSION = 2
LIMIT = 20
REFUSAL = "Not found in the documents."
SIGNALS = ("evidence", "evidence over none", "refusal")


def twins(question: Question) -> tuple[ScoredIndex, ScoredIndex]:
    """An index of the documents with and one without what answers the question."""
    whole = corpus(dict(question.documents))
    rest = tuple(d for d in whole.documents if d.path != question.gold_path)
    return ScoredIndex(passages(whole)), ScoredIndex(passages(Corpus(rest)))


def measure(subject: Subject, question: Question) -> Result:
    """The signals, each as [answerable, unanswerable]."""
    found = [index.search(question.text, NUM_CANDIDATES) for index in twins(question)]
    once = {_place(passage): passage for candidates in found for passage in candidates}
    ranked = Reranker(subject.engine).rank(question.text, list(once.values()), lambda *_: None)
    score = {_place(one.passage): one for one in ranked}
    none = without_passage(subject, question.text)
    result: Result = {signal: [] for signal in (*SIGNALS, "refuses")}
    for candidates in found:
        best = sorted((score[_place(passage)] for passage in candidates), key=lambda r: -r.score)
        result["evidence"].append(best[0].score)
        result["evidence over none"].append(best[0].score - none)
        likelihood, refuses = refusal(subject, question.text, best[:NUM_PASSAGES])
        result["refusal"].append(-likelihood)
        result["refuses"].append(refuses)
    return result


def without_passage(subject: Subject, question: str) -> float:
    """Mean log p of the question where the judge is shown nothing."""
    return Reranker(subject.engine).baseline(question)


def refusal(subject: Subject, question: str, best: Sequence[Ranked]) -> tuple[float, bool]:
    """Mean log p of the refusal after the best passages, and whether greedy writing begins so."""
    tokenizer = subject.engine.tokenizer
    texts = [f"{one.passage.text}\n\n" for one in reversed(best)]
    asked = Turn("user", (*texts, prompt("question"), question))
    context = subject.engine.new_context()
    context.extend(tokenizer.encode_chat([Turn("system", (prompt("system"),)), asked]))
    ids = tokenizer.encode(REFUSAL)
    likelihood = float(context.score(ids).mean())
    written = subject.write(context, len(ids)).strip()
    return likelihood, written.startswith(REFUSAL.rstrip("."))


def by_bm25(question: Question) -> tuple[float, float]:
    answerable, unanswerable = (index.best_score(question.text) for index in twins(question))
    return answerable, unanswerable


def put(table: Table, column: str, results: Sequence[Result], seed: int) -> None:
    for signal in SIGNALS:
        put_signal(table, signal, column, [tuple(result[signal]) for result in results], seed)
    for twin, name in enumerate(("answerable", "not answerable")):
        refused = sum(result["refuses"][twin] for result in results)
        cell = wilson(refused, len(results))
        table.put({"signal": "writes the refusal"}, name, column, cell)


def put_signal(
    table: Table, signal: str, column: str, pairs: Sequence[tuple[float, ...]], seed: int
) -> None:
    """`pairs` of a signal's value for a question and for its twin."""
    positive, negative = ([pair[twin] for pair in pairs] for twin in (0, 1))
    table.put({"signal": signal}, "AUROC", column, bootstrap_auroc(positive, negative, seed))
    higher = sum(one > other for one, other in zip(positive, negative, strict=True))
    table.put({"signal": signal}, "above its twin", column, wilson(higher, len(pairs)))


def build(subjects: Sequence[Subject], options: argparse.Namespace, work: Work) -> Table:
    table = Table("abstention", "Abstention: can it be told that the answer is not there?")
    options.sets = (READING,)
    asked = [question for question in gather(options, table) if question.gold_path is not None]
    for subject in subjects:
        work.stage(f"abstention, {subject.name}", len(asked))
        done = [work.do(_key(subject, q), partial(measure, subject, q)) for q in asked]
        if results := [result for result in done if result is not None]:
            put(table, subject.name, results, options.seed)
        left_out(table, work, subject.name)
    put_signal(table, "bm25", BM25, [by_bm25(question) for question in asked], options.seed)
    table.note(best_signal(table))
    table.note(f"{FIRST} has no signal of its own and is left out.")
    return table


def best_signal(table: Table) -> str:
    """The winner in words, bm25 if it is bm25."""
    areas = [
        (cell.value, f"`{row.condition['signal']}` of {column}: AUROC {cell}")
        for row in table.rows
        if row.measure == "AUROC"
        for column, cell in row.cells.items()
        if isinstance(cell, Estimate)
    ]
    return f"The best signal is {max(areas)[1]}."


def _place(passage: Passage) -> tuple[str, int, int]:
    return passage.document.path, passage.start, passage.end


def _key(subject: Subject, question: Question) -> Key:
    return {
        "table": "abstention",
        "version": VERSION,
        "model": subject.engine.fingerprint,
        "question": question.text,
        "asked": question.digest,
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    add_question_options(parser, LIMIT)


COMMAND = Command("abstention", __doc__ or "", add_options, build)

if __name__ == "__main__":
    main(COMMAND)
