"""Does the product find the passages that carry an answer, and know when there are none?

    python -m benchmarks.evidence [--model DIR] [--questions 60] [--answers 20] [--minutes 15]

60 questions about the 40 documents of tests/evidence (about 100K tokens; twins, digits, tables,
negations, contradictions; 13 questions that nothing answers). Every number is the product's own
path. Recall@k: one of the first k overlaps a gold passage. Of passages (some 700 characters, in the
judge's order) and of pieces (two sentences from the best three passages, which is what is shown):
`bm25 alone` orders the same passages, and all pieces there are, by plain FTS5 bm25 of their text;
`search` is the order of the product's index, which also knows paths and headings. `--answers`
questions are answered too (by retrieval): are the quotes exact, do gain and attention order the
pieces better, does gain tell what carries a right answer from what does not. Intervals: Wilson,
95 %; bootstrap for AUROC. Thresholds are chosen on all but one question and tried on that one.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from benchmarks.evidence.library import Library
from benchmarks.evidence.report import report
from benchmarks.quality.command import Command, left_out, main, positive
from benchmarks.quality.subject import Subject
from benchmarks.quality.table import Table
from benchmarks.quality.work import Result, Work
from mm1cli.answering.answer import Answerer
from mm1cli.answering.question import Question as ProductQuestion
from mm1cli.grounding import citations
from mm1cli.grounding.attribution import gains
from mm1cli.grounding.quote_index import QuoteIndex
from mm1cli.ingest.manifest import ReadingPlan
from mm1cli.ingest.pack import Packed, pack
from mm1cli.output import make_sink
from mm1cli.result import CitationKind, CitationStatus
from mm1cli.retrieval.passages import Passage, Ranked, with_heading
from mm1cli.retrieval.retriever import NUM_PIECES, Attend, Evidence, Retriever
from mm1cli.settings import Settings
from tests.evidence.corpus import Question, questions

VERSION = 3
MAX_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Asked:
    """One model's product over the library."""

    subject: Subject
    library: Library
    packed: Packed
    retriever: Retriever

    @classmethod
    def of(cls, subject: Subject, library: Library) -> "Asked":
        packed = pack(library.corpus, subject.engine.tokenizer)
        return cls(subject, library, packed, Retriever(subject.engine, library.corpus))

    def rank(self, question: Question) -> Result:
        """Evidence as the product finds it, each as [gold, score, document, block, start, end]."""
        evidence = self.retriever.find(question.text, lambda *_: None)
        return {
            "lift": evidence.score_margin,
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
        """The product's answer by retrieval, and the gain of each piece for the right answer."""
        best = [self._ranked(ranked[unit]) for unit in ("passages", "pieces")]
        evidence = Evidence(best[0], best[1], ranked["lift"])
        settings = replace(Settings(), max_tokens=MAX_TOKENS)
        sink = make_sink("json", quiet=True)  # never closed, so it prints nothing
        reader = Answerer(
            self.subject.engine,
            self.packed,
            ReadingPlan.RETRIEVAL,
            settings,
            sink,
            retriever=Known(evidence),
            num_quotes=NUM_PIECES,
        )
        answer = reader.answer(ProductQuestion(question.text))
        pieces = [one.passage for one in evidence.pieces]
        by_text = {(one.document.path, one.text): one for one in pieces}
        cited = []
        for citation in answer.citations:
            if citation.kind is CitationKind.EVIDENCE:
                gold = self.library.is_gold(question, by_text[citation.path, citation.text])
                cited.append([gold, citation.score, citation.gain, citation.attention])
        quotable = QuoteIndex(self.library.corpus)
        return {
            "text": answer.words or answer.text,
            "is_found": answer.is_found,
            "cited": cited,
            "exact": [self._is_exact(citation.text, quotable) for citation in answer.citations],
            "unverified": len(answer.unverified),
            "right": self._right(question, pieces),
        }

    def _ranked(self, judged: Sequence[Sequence[Any]]) -> tuple[Ranked, ...]:
        return tuple(Ranked(self.library.at(*place), score) for _, score, *place in judged)

    def _is_exact(self, text: str, quotable: QuoteIndex) -> bool:
        match = quotable.find_anywhere(text)
        return match is not None and match.status is CitationStatus.EXACT

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
                all(citations.contains_number(with_heading(piece), number) for number in numbers),
            ]
            for piece, gain in zip(pieces, found, strict=True)
        ]


class Known(Retriever):
    """A retriever of what was found before."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence

    def search(self, text: str, num_passages: int) -> list[Passage]:  # noqa: ARG002
        return []

    def find(
        self,
        question: str,  # noqa: ARG002
        on_progress: Callable[[str, int, int, str], None],  # noqa: ARG002
        num_passages: int = 0,  # noqa: ARG002
        attend: Attend = lambda _: None,  # noqa: ARG002
    ) -> Evidence:
        return self.evidence


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


def add_options(parser: argparse.ArgumentParser) -> None:
    number = len(questions())
    parser.add_argument("--questions", type=positive, default=number, help="how many, of 60")
    parser.add_argument("--answers", type=positive, default=number, help="of these, answered")


COMMAND = Command("evidence", __doc__ or "", add_options, build, package="benchmarks")

if __name__ == "__main__":
    main(COMMAND)
