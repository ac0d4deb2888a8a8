"""The numbers of the evidence set, from what was measured of each question."""

from collections.abc import Sequence
from itertools import pairwise

from benchmarks.evidence.library import Library
from benchmarks.quality.baselines import BM25
from benchmarks.quality.stats import bootstrap_auroc, wilson
from benchmarks.quality.table import Table
from benchmarks.quality.work import Result
from mm1cli.answering.abstention import MIN_SCORE_MARGIN
from mm1cli.grounding.judgement import MEASURED
from mm1cli.retrieval.passages import Passage
from mm1cli.retrieval.retriever import NUM_CANDIDATES, NUM_PIECES
from tests.evidence.corpus import Question

AT = (1, 5)
SEARCH = "search"
GAIN_WEIGHTS = (0.0, 0.1, 0.25, 0.5, 1.0)
ATTENTION_WEIGHTS = (0.0, 1.0, 5.0)


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
    false_abstained = sum(lift < MIN_SCORE_MARGIN for lift in there)
    false_answered = sum(lift >= MIN_SCORE_MARGIN for lift in nowhere)
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
        f"The product abstains below a score margin of {MIN_SCORE_MARGIN:g} nats per token of the "
        "question; the lowest margin of a question that is answered was "
        f"{min(there):.2f}. Best threshold: the one with the fewest mistakes in all other "
        "questions, tried on the one left out."
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
    limit = MEASURED.gain
    carried = sum(gain >= limit and held for gold, gain, held in pieces if gold)
    wrongly = sum(gain >= limit and held for gold, gain, held in pieces if not gold)
    table.put(where, "gold that carries it", column, wilson(carried, len(carrying)))
    table.put(where, "other that carries it", column, wilson(wrongly, len(others)))
    scored = [(gain, bool(gold)) for gold, gain, held in pieces if held]
    table.note(
        f"A piece carries an answer from a gain of {limit:g} on, if it lacks none of its "
        f"numbers. Among the {len(scored)} pieces that lack none the fewest mistakes are made at "
        f"{best_threshold(scored):.2f}."
    )


def _flags(judged: Sequence[Sequence[float]]) -> list[bool]:
    return [bool(gold) for gold, *_ in judged]


def _gold(library: Library, question: Question, found: Sequence[Passage]) -> list[bool]:
    return [library.is_gold(question, one) for one in found]
