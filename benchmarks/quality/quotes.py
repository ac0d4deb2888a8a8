"""What the product quotes: is it in the source, and does it hold the answer?

    python -m benchmarks.quality.quotes [--model DIR] [--limit 12] [--questions FILE.jsonl]

Every answer is made as `mm1 analyze` makes it. `quotes exact`: of all pieces shown as evidence and
all quotations in the answer's text, those that stand in the source character for character;
`quotations exact`: of the latter alone. The former are cut from the source by the program, so that
one which is not exact is a fault of the program's. Then the shares of answers with at least one
quote, whose first or any quote holds the known answer, whose text holds it, and whose text says
something in quotes or numbers that no document says. All intervals: Wilson 95 %.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from benchmarks.quality.baselines import BM25, FIRST, corpus, first
from benchmarks.quality.command import Command, left_out, main, positive
from benchmarks.quality.evidence import add_question_options, gather, indexed
from benchmarks.quality.heldout import READING, Question
from benchmarks.quality.stats import wilson
from benchmarks.quality.subject import Subject
from benchmarks.quality.table import Table
from benchmarks.quality.work import Key, Result, Work
from engine.tokenizer import Tokenizer
from mm1cli.answering.answer import Answerer
from mm1cli.answering.prompt import frame_tokens
from mm1cli.answering.question import Question as Asked
from mm1cli.grounding import citations
from mm1cli.grounding.quote_index import QuoteIndex
from mm1cli.ingest.manifest import ReadingPlan
from mm1cli.ingest.pack import Packed, pack
from mm1cli.output import make_sink
from mm1cli.result import CitationStatus
from mm1cli.retrieval.passages import PASSAGE_CHARS
from mm1cli.retrieval.retriever import PIECE_SENTENCES
from mm1cli.settings import Settings

VERSION = 2
LIMIT = 12
MAX_TOKENS = 48


def plan_for(
    packed: Packed, tokenizer: Tokenizer, question: str, limit: int, room: int
) -> ReadingPlan:
    """As `mm1 analyze` decides: whole if it fits beside the prompt and the answer."""
    budget = limit - room - frame_tokens(tokenizer, [question])
    return ReadingPlan.WHOLE if packed.num_tokens <= budget else ReadingPlan.RETRIEVAL


def measure(subject: Subject, question: Question, max_tokens: int) -> Result:
    tokenizer = subject.engine.tokenizer
    read = corpus(dict(question.documents))
    packed = pack(read, tokenizer)
    plan = plan_for(packed, tokenizer, question.text, subject.trained_tokens, max_tokens)
    settings = replace(Settings(), max_tokens=max_tokens)
    sink = make_sink("json", quiet=True)  # never closed, so it prints nothing
    answerer = Answerer(subject.engine, packed, plan, settings, sink)
    answer = answerer.answer(Asked(question.text))
    quotable = QuoteIndex(read)
    # Evidence has the judge's score; a quotation that was found in the source has none.
    shown = [citation.text for citation in answer.citations if citation.score]
    written = citations.quotations(answer.text)
    quotes = shown + written
    return {
        "plan": str(plan),
        "shown_exact": [is_exact(quotable, quote) for quote in shown],
        "written_exact": [is_exact(quotable, quote) for quote in written],
        "holds": [question.holds_answer(quote) for quote in quotes],
        "text_holds": question.holds_answer(answer.text),
        "unverified": bool(answer.unverified),
    }


def is_exact(quotable: QuoteIndex, quote: str) -> bool:
    match = quotable.find_anywhere(quote)
    return match is not None and match.status is CitationStatus.EXACT


def put(table: Table, column: str, results: Sequence[Result]) -> None:
    shares: dict[str, list[bool]] = {
        "quotes exact": [x for r in results for x in r["shown_exact"] + r["written_exact"]],
        "quotations exact": [x for r in results for x in r["written_exact"]],
        "has a quote": [bool(r["holds"]) for r in results],
        "first quote holds the answer": [any(r["holds"][:1]) for r in results],
        "any quote holds the answer": [any(r["holds"]) for r in results],
        "text holds the answer": [r["text_holds"] for r in results],
        "text says what no document says": [r["unverified"] for r in results],
    }
    for measure_name, found in shares.items():
        cell = wilson(sum(found), len(found)) if found else "none written"
        table.put({}, measure_name, column, cell)


def put_baselines(table: Table, subject: Subject, asked: Sequence[Question]) -> None:
    """A whole passage stands in for the quote."""
    best = within = 0
    for question in asked:
        found, index = indexed(question)
        best += question.holds_answer(index.search(question.text, 1)[0].text)
        beginning = first(found, subject.engine.tokenizer)
        within += any(question.is_gold(p) and question.holds_answer(p.text) for p in beginning)
    num = len(asked)
    table.put({}, "first quote holds the answer", BM25, wilson(best, num))
    table.put({}, "any quote holds the answer", FIRST, wilson(within, num))
    table.note(
        f"{BM25}: the first passage, of some {PASSAGE_CHARS} characters where a quote has "
        f"{PIECE_SENTENCES} sentences, holds the answer; {FIRST}: a passage with the evidence "
        "stands in them, the most that reading them can give."
    )


def build(subjects: Sequence[Subject], options: argparse.Namespace, work: Work) -> Table:
    table = Table("quotes", "Quotes: are they in the source, and do they hold the answer?")
    options.sets = (READING,)  # meetings have evidence, but no answer in their words
    asked = [question for question in gather(options, table) if question.answers]
    for subject in subjects:
        work.stage(f"quotes, {subject.name}", len(asked))
        done = [
            work.do(_key(subject, q, options), partial(measure, subject, q, options.max_tokens))
            for q in asked
        ]
        if results := [result for result in done if result is not None]:
            put(table, subject.name, results)
            whole = sum(result["plan"] == ReadingPlan.WHOLE for result in results)
            table.note(
                f"{subject.name}: {whole} of {len(results)} answers after reading everything, the "
                f"others by focus, as its length of {subject.trained_tokens:,} tokens allows."
            )
        left_out(table, work, subject.name)
    put_baselines(table, subjects[0], asked)
    return table


def _key(subject: Subject, question: Question, options: argparse.Namespace) -> Key:
    return {
        "table": "quotes",
        "version": VERSION,
        "model": subject.engine.fingerprint,
        "max_tokens": options.max_tokens,
        "question": question.text,
        "asked": question.digest,
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    add_question_options(parser, LIMIT)
    parser.add_argument("--max-tokens", type=positive, default=MAX_TOKENS, help="of an answer")


COMMAND = Command("quotes", __doc__ or "", add_options, build)

if __name__ == "__main__":
    main(COMMAND)
