"""How often the evidence, and how often the answer, holds what was asked for.

    python -m benchmarks.answers [--model DIR]

Twelve questions about examples/papers, each with the words a right answer or quote contains, under
both reading plans. The bm25 column is the first passage of plain full-text search, the baseline.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from benchmarks import machine
from engine.engine import Engine
from mm1cli.answering.answer import Answerer
from mm1cli.answering.question import Question
from mm1cli.ingest import read_corpus
from mm1cli.ingest.manifest import ReadingPlan
from mm1cli.ingest.pack import pack
from mm1cli.models import library
from mm1cli.output import make_sink
from mm1cli.retrieval.bm25 import Bm25Index
from mm1cli.retrieval.passages import passages
from mm1cli.retrieval.retriever import NUM_CANDIDATES
from mm1cli.settings import Settings

PAPERS = Path(__file__).parent.parent / "examples" / "papers"
QUESTIONS: dict[str, tuple[str, ...]] = {
    "How much did the harbour crossing cost?": ("48.2",),
    "Who built the crossing?": ("Calder and Vane",),
    "How long is the crossing?": ("612",),
    # The report and the minutes disagree on this one.
    "When did the crossing open to the public?": ("14 September 2017", "21 September 2017"),
    "How many passengers did the ferry carry in 2012?": ("412,000",),
    "Why did the work finish late?": ("timber piles", "pier"),
    "What is the speed limit on the bridge?": ("40 kilometres",),
    "Which member voted against the budget?": ("Saltmarsh",),
    "What is the single fare of the ferry?": ("3.50",),
    "How long does a lift of the span take?": ("4 minutes",),
    "When will the loan be repaid?": ("2032",),
    "How many accidents with an injury were there?": ("11",),
}


def holds(text: str, wanted: tuple[str, ...]) -> bool:
    flat = " ".join(text.split())
    return any(words in flat for words in wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--max-tokens", type=int, default=64)
    arguments = parser.parse_args()
    engine = Engine(library.ensure(arguments.model, lambda *_: None))
    packed = pack(read_corpus([str(PAPERS)]), engine.tokenizer)
    settings = replace(Settings(), max_tokens=arguments.max_tokens)
    index = Bm25Index(passages(packed.corpus))
    rows: list[dict[str, object]] = []
    print(
        f"{'plan':<6}  {'answer':>6}  {'first quote':>11}  {'any quote':>9}  {'bm25':>5}  {'s':>5}"
    )
    for plan in ReadingPlan:
        sink = make_sink("json", quiet=True)  # never closed, so it prints nothing
        reader = Answerer(engine, packed, plan, settings, sink)
        counts = dict.fromkeys(("answer", "first_quote", "any_quote", "bm25"), 0)
        total_s = 0.0
        for question, wanted in QUESTIONS.items():
            answer = reader.answer(Question(question))
            quotes = [citation.text for citation in answer.citations]
            best = index.search(question, NUM_CANDIDATES)[0]
            counts["answer"] += holds(answer.text, wanted)
            counts["first_quote"] += holds(quotes[0], wanted)
            counts["any_quote"] += any(holds(quote, wanted) for quote in quotes)
            counts["bm25"] += holds(best.text, wanted)
            total_s += answer.usage.total_s
        seconds = total_s / len(QUESTIONS)
        rows.append({"plan": plan.value, "of": len(QUESTIONS), **counts, "seconds": seconds})
        print(
            f"{plan:<6}  {counts['answer']:>6}  {counts['first_quote']:>11}  "
            f"{counts['any_quote']:>9}  {counts['bm25']:>5}  {seconds:>5.1f}"
        )
    print(f"of {len(QUESTIONS)} questions; s is seconds per question")
    machine.print_result("answers", rows)


if __name__ == "__main__":
    main()
