"""Does the product find the passages that carry an answer, and know when there are none?

    python -m benchmarks.evidence [--model DIR] [--questions 60] [--answers 20] [--minutes 15]

60 questions about the 40 documents of tests/evidence (about 100K tokens; twins, digits, tables,
negations, contradictions; 13 questions that nothing answers). Every number is the product's own
path. Recall@k: one of the first k overlaps a gold passage. Of passages (some 700 characters, in the
judge's order) and of pieces (two sentences from the best three passages, which is what is shown):
`bm25 alone` orders the same passages, and all pieces there are, by plain FTS5 bm25 of their text;
`search` is the order of the product's index, which also knows paths and headings. `--answers`
questions are answered too (by focus): are the quotes exact, do gain and attention order the pieces
better, does gain tell what carries a right answer from what does not. Intervals: Wilson, 95 %;
bootstrap for AUROC. Thresholds are chosen on all but one question and tried on that one.
"""

import argparse
import re
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.quality.baselines import BM25
from benchmarks.quality.command import Command, left_out, main, positive
from benchmarks.quality.stats import bootstrap_auroc, wilson
from benchmarks.quality.subject import Subject
from benchmarks.quality.table import Table
from benchmarks.quality.work import Result, Work, digest
from mm1cli import citations
from mm1cli.abstention import MIN_LIFT
from mm1cli.answer import Reader
from mm1cli.claims import CLAIM_GAIN
from mm1cli.evidence import (
    NUM_CANDIDATES,
    NUM_PIECES,
    PIECE_SENTENCES,
    Evidence,
    Finder,
    Index,
    Ranked,
    as_judged,
)
from mm1cli.ingest import read_corpus
from mm1cli.ingest.corpus import Corpus
from mm1cli.ingest.pack import Packed, pack
from mm1cli.output import make_sink
from mm1cli.passages import Passage, passages
from mm1cli.result import CitationKind, CitationStatus, ReadingPlan
from mm1cli.settings import Settings
from mm1cli.support import gains
from tests.evidence.corpus import Question, questions, texts, write

VERSION = 1
AT = (1, 5)
MAX_TOKENS = 32
SEARCH = "search"
GAIN_WEIGHTS = (0.0, 0.1, 0.25, 0.5, 1.0)
ATTENTION_WEIGHTS = (0.0, 1.0, 5.0)


class Library:
    """The documents as the product reads them, and where each question's gold stands."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            read = read_corpus([folder])
            # The folder's name differs from run to run, and the judge reads paths.
            named = [
                replace(document, path=str(Path(document.path).relative_to(folder)))
                for document in read.documents
            ]
        self.corpus = Corpus(tuple(named))
        self.passages = passages(self.corpus)
        self.digest = digest(texts())

    @cached_property
    def index(self) -> Index:
        return Index(self.passages)

    @cached_property
    def plain_passages(self) -> "Plain":
        return Plain(self.passages)

    @cached_property
    def plain_pieces(self) -> "Plain":
        return Plain([span for one in self.passages for span in one.spans(PIECE_SENTENCES)])

    def place(self, passage: Passage) -> tuple[int, int, int, int]:
        """Which it is: the numbers of document and block, and where it begins and ends."""
        document = next(n for n, d in enumerate(self.corpus.documents) if d is passage.document)
        blocks = passage.document.blocks
        block = next(n for n, one in enumerate(blocks) if one is passage.block)
        return document, block, passage.start, passage.end

    def at(self, document: int, block: int, start: int, end: int) -> Passage:
        found = self.corpus.documents[document]
        return Passage(found, found.blocks[block], start, end)

    def is_gold(self, question: Question, passage: Passage) -> bool:
        return any(
            passage.document.path == gold.path
            and (at := passage.block.text.find(gold.text)) >= 0
            and passage.start < at + len(gold.text)
            and at < passage.end
            for gold in question.gold
        )


class Plain:
    """FTS5 bm25 of the text alone: what anybody has without a model."""

    def __init__(self, found: Sequence[Passage]) -> None:
        self._found = found
        self._database = sqlite3.connect(":memory:")
        self._database.execute("CREATE VIRTUAL TABLE t USING fts5(x, tokenize='porter unicode61')")
        rows = ((number, one.text) for number, one in enumerate(found))
        self._database.executemany("INSERT INTO t(rowid, x) VALUES (?, ?)", rows)

    def search(self, question: str, limit: int) -> list[Passage]:
        """The best that do not overlap one another."""
        words = dict.fromkeys(re.findall(r"\w+", question.lower()))
        query = " OR ".join(f'"{word}"' for word in words)
        rows = self._database.execute(
            "SELECT rowid FROM t WHERE t MATCH ? ORDER BY rank, rowid LIMIT ?", (query, 4 * limit)
        )
        chosen: list[Passage] = []
        for (row,) in rows:
            if not any(self._found[row].overlaps(one) for one in chosen):
                chosen.append(self._found[row])
        return chosen[:limit]


@dataclass(frozen=True, slots=True)
class Asked:
    """One model's product over the library."""

    subject: Subject
    library: Library
    packed: Packed
    finder: Finder

    @classmethod
    def of(cls, subject: Subject, library: Library) -> "Asked":
        packed = pack(library.corpus, subject.engine.tokenizer)
        return cls(subject, library, packed, Finder(subject.engine, library.corpus))

    def rank(self, question: Question) -> Result:
        """Evidence as the product finds it, each as [gold, score, document, block, start, end]."""
        evidence = self.finder.find(question.text, lambda *_: None)
        return {
            "lift": evidence.lift,
            "passages": self._judged(question, evidence.passages),
            "pieces": self._judged(question, evidence.pieces),
        }

    def _judged(self, question: Question, ranked: Sequence[Ranked]) -> list[list[object]]:
        library = self.library
        return [
            [library.is_gold(question, one.passage), one.score, *library.place(one.passage)]
            for one in ranked
        ]

    def answer(self, question: Question, ranked: Result) -> Result:
        """What the product answers by focus, and the gain of each piece for the right answer."""
        best = [self._ranked(ranked[unit]) for unit in ("passages", "pieces")]
        evidence = Evidence(best[0], best[1], ranked["lift"])
        settings = replace(Settings(), max_tokens=MAX_TOKENS)
        sink = make_sink("json", quiet=True)  # never closed, so it prints nothing
        reader = Reader(
            self.subject.engine,
            self.packed,
            ReadingPlan.FOCUS,
            settings,
            sink,
            finder=Known(evidence),
            num_quotes=NUM_PIECES,
        )
        answer = reader.answer(question.text)
        pieces = [one.passage for one in evidence.pieces]
        by_text = {(one.document.path, one.text): one for one in pieces}
        cited = []
        for citation in answer.citations:
            if citation.kind is CitationKind.EVIDENCE:
                gold = self.library.is_gold(question, by_text[citation.path, citation.text])
                cited.append([gold, citation.score, citation.gain, citation.attention])
        source = citations.Source(self.library.corpus)
        return {
            "text": answer.words or answer.text,
            "is_found": answer.is_found,
            "cited": cited,
            "exact": [self._is_exact(citation.text, source) for citation in answer.citations],
            "unverified": len(answer.unverified),
            "right": self._right(question, pieces),
        }

    def _ranked(self, judged: Sequence[Sequence[Any]]) -> tuple[Ranked, ...]:
        return tuple(Ranked(self.library.at(*place), score) for _, score, *place in judged)

    def _is_exact(self, text: str, source: citations.Source) -> bool:
        found = source.find(text)
        return found is not None and found.status is CitationStatus.EXACT

    def _right(self, question: Question, pieces: Sequence[Passage]) -> list[list[object]]:
        """[gold, gain, numbers held] of each piece for the answer written by hand."""
        if question.answer is None:
            return []
        found = gains(self.subject.engine, question.text, question.answer, pieces) or []
        numbers = citations.numbers(question.answer)
        return [
            [
                self.library.is_gold(question, piece),
                gain.mean,
                all(citations.holds_number(as_judged(piece), number) for number in numbers),
            ]
            for piece, gain in zip(pieces, found, strict=True)
        ]


class Known(Finder):
    """A finder of what was found before."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def find(
        self,
        question: str,  # noqa: ARG002
        on_progress: Callable[[str, int, int, str], None],  # noqa: ARG002
        num_passages: int = 0,  # noqa: ARG002
    ) -> Evidence:
        return self._evidence


def build(subjects: Sequence[Subject], options: argparse.Namespace, work: Work) -> Table:
    table = Table("evidence", "Evidence: 60 questions about 40 documents")
    library = Library()
    asked = questions()[: options.questions]
    for subject in subjects:
        work.stage(f"evidence, {subject.name}", len(asked) + min(options.answers, len(asked)))
        world = Asked.of(subject, library)
        ranked: list[tuple[Question, Result]] = []
        answered: list[tuple[Question, Result]] = []
        for question in asked:
            key = _key(subject, library, question) | {"stage": "rank"}
            result = work.do(key, partial(world.rank, question))
            if result is not None:
                ranked.append((question, result))
        for question, found in ranked[: options.answers]:
            key = _key(subject, library, question) | {"stage": "answer"}
            result = work.do(key, partial(world.answer, question, found))
            if result is not None:
                answered.append((question, result))
        report(table, library, subject.name, ranked, answered, options.seed)
        left_out(table, work, subject.name)
    return table


def _key(subject: Subject, library: Library, question: Question) -> dict[str, object]:
    return {
        "table": "evidence set",
        "version": VERSION,
        "model": subject.engine.fingerprint,
        "documents": library.digest,
        "question": question.text,
        "gold": [[gold.path, gold.text] for gold in question.gold],
    }


def report(
    table: Table,
    library: Library,
    column: str,
    ranked: Sequence[tuple[Question, Result]],
    answered: Sequence[tuple[Question, Result]],
    seed: int,
) -> None:
    put_ranking(table, library, column, [pair for pair in ranked if pair[0].gold])
    put_abstention(table, column, ranked, seed)
    put_answers(table, column, answered)
    put_claims(table, column, [pair for pair in answered if pair[0].gold], seed)


def put_ranking(
    table: Table, library: Library, column: str, ranked: Sequence[tuple[Question, Result]]
) -> None:
    if not ranked:
        return
    asked = [question for question, _ in ranked]
    orders = {
        "passages": {
            column: [_flags(result["passages"]) for _, result in ranked],
            SEARCH: [
                _gold(library, q, library.index.search(q.text, NUM_CANDIDATES)) for q in asked
            ],
            BM25: [
                _gold(library, q, library.plain_passages.search(q.text, NUM_CANDIDATES))
                for q in asked
            ],
        },
        "pieces": {
            column: [_flags(result["pieces"]) for _, result in ranked],
            BM25: [
                _gold(library, q, library.plain_pieces.search(q.text, NUM_PIECES)) for q in asked
            ],
        },
    }
    for unit, by_column in orders.items():
        for k in (*AT, NUM_CANDIDATES) if unit == "passages" else AT:
            for name, flags in by_column.items():
                hits = sum(any(flag[:k]) for flag in flags)
                table.put({"of": unit}, f"recall@{k}", name, wilson(hits, len(flags)))
    kinds = dict.fromkeys(question.kind for question in asked)
    for kind in kinds:
        for name, flags in orders["passages"].items():
            own = [flag for q, flag in zip(asked, flags, strict=True) if q.kind == kind]
            hits = sum(any(flag[:1]) for flag in own)
            table.put({"of": f"passages, {kind}"}, "recall@1", name, wilson(hits, len(own)))


def put_abstention(
    table: Table, column: str, ranked: Sequence[tuple[Question, Result]], seed: int
) -> None:
    """Is there a lift below which questions have no answer?"""
    there = [result["lift"] for question, result in ranked if question.gold]
    nowhere = [result["lift"] for question, result in ranked if not question.gold]
    if not there or not nowhere:
        return
    where = {"of": "questions"}
    table.put(where, "lift tells them apart, AUROC", column, bootstrap_auroc(there, nowhere, seed))
    false_abstained = sum(lift < MIN_LIFT for lift in there)
    false_answered = sum(lift >= MIN_LIFT for lift in nowhere)
    right = len(there) - false_abstained + len(nowhere) - false_answered
    table.put(where, "abstention right", column, wilson(right, len(ranked)))
    table.put(where, "abstains although answered", column, wilson(false_abstained, len(there)))
    table.put(where, "answers although nowhere", column, wilson(false_answered, len(nowhere)))
    best = [
        right_without(one, [(lift, True) for lift in there] + [(lift, False) for lift in nowhere])
        for one in range(len(ranked))
    ]
    table.put(where, "abstention right, best threshold", column, wilson(sum(best), len(best)))
    table.note(
        f"The product abstains below a lift of {MIN_LIFT:g} nats per token of the question; the "
        f"lowest lift of a question that is answered was {min(there):.2f}. Best threshold: the one "
        "with the fewest mistakes in all other questions, tried on the one left out."
    )


def right_without(left_out: int, scored: Sequence[tuple[float, bool]]) -> bool:
    """Whether the best threshold of all others puts `scored[left_out]` on its side."""
    others = [pair for number, pair in enumerate(scored) if number != left_out]
    threshold = best_threshold(others)
    value, is_positive = scored[left_out]
    return (value >= threshold) == is_positive


def best_threshold(scored: Sequence[tuple[float, bool]]) -> float:
    """Between two values, or below or above all: where the fewest stand on the wrong side."""
    values = sorted({value for value, _ in scored})
    borders = [values[0] - 1.0, *((a + b) / 2 for a, b in pairwise(values)), values[-1] + 1.0]
    return min(
        borders,
        key=lambda border: sum((value >= border) != positive for value, positive in scored),
    )


def put_answers(table: Table, column: str, answered: Sequence[tuple[Question, Result]]) -> None:
    if not answered:
        return
    exact = [flag for _, result in answered for flag in result["exact"]]
    table.put({"of": "answers"}, "quotes exact", column, wilson(sum(exact), len(exact)))
    unverified = sum(bool(result["unverified"]) for _, result in answered)
    table.put(
        {"of": "answers"}, "say what no document says", column, wilson(unverified, len(answered))
    )
    cited = [result["cited"] for question, result in answered if question.gold]
    for name, weight in (
        *((f"score + {w:g} gain", (w, 0.0)) for w in GAIN_WEIGHTS),
        *((f"score + {w:g} attention", (0.0, w)) for w in ATTENTION_WEIGHTS[1:]),
    ):
        hits = sum(bool(_ordered(pieces, *weight)[:1] == [True]) for pieces in cited)
        table.put({"of": f"pieces by {name}"}, "recall@1", column, wilson(hits, len(cited)))


def _ordered(
    pieces: Sequence[Sequence[float | None]], gain_weight: float, attention_weight: float
) -> list[bool]:
    """Gold or not, best first; a piece is [gold, score, gain, attention]."""

    def value(piece: Sequence[float | None]) -> float:
        _, score, gain, attention = piece
        return (score or 0.0) + gain_weight * (gain or 0.0) + attention_weight * (attention or 0.0)

    return [bool(piece[0]) for piece in sorted(pieces, key=value, reverse=True)]


def put_claims(
    table: Table, column: str, answered: Sequence[tuple[Question, Result]], seed: int
) -> None:
    """Does the gain of a right answer tell pieces that carry it from pieces that do not?"""
    pieces = [piece for _, result in answered for piece in result["right"]]
    carrying = [gain for gold, gain, _ in pieces if gold]
    others = [gain for gold, gain, _ in pieces if not gold]
    if not carrying or not others:
        return
    where = {"of": "pieces for the right answer"}
    table.put(
        where, "gain tells them apart, AUROC", column, bootstrap_auroc(carrying, others, seed)
    )
    carried = sum(gain >= CLAIM_GAIN and held for gold, gain, held in pieces if gold)
    wrongly = sum(gain >= CLAIM_GAIN and held for gold, gain, held in pieces if not gold)
    table.put(where, "gold that carries it", column, wilson(carried, len(carrying)))
    table.put(where, "other that carries it", column, wilson(wrongly, len(others)))
    scored = [(gain, bool(gold)) for gold, gain, held in pieces if held]
    table.note(
        f"A piece carries an answer from a gain of {CLAIM_GAIN:g} on, if it lacks none of its "
        f"numbers. Among the {len(scored)} pieces that lack none the fewest mistakes are made at "
        f"{best_threshold(scored):.2f}."
    )


def _flags(judged: Sequence[Sequence[float]]) -> list[bool]:
    return [bool(gold) for gold, *_ in judged]


def _gold(library: Library, question: Question, found: Sequence[Passage]) -> list[bool]:
    return [library.is_gold(question, one) for one in found]


def add_options(parser: argparse.ArgumentParser) -> None:
    number = len(questions())
    parser.add_argument("--questions", type=positive, default=number, help="how many, of 60")
    parser.add_argument("--answers", type=positive, default=number, help="of these, answered")


COMMAND = Command("evidence", __doc__ or "", add_options, build, package="benchmarks")

if __name__ == "__main__":
    main(COMMAND)
