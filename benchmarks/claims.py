"""Is the mark of a claim right? Precision and recall of "carried" on tests/evidence/claims.jsonl.

    python -m benchmarks.claims [--model M ...] [--minutes 30]

643 sentences, each with a quote, another passage and what these say of it (by hand: carried,
contradicted, not carried); two thirds are negated, swapped, of another subject, year, unit or
number. `overlap` is the lexical baseline: a sentence is carried if the quote has four of five of
its words and all its numbers, digit by digit. `words` is the product without a model; a model is
the product with it. Tables of words were made on "dev", weights and thresholds on it and "fit";
"held out" and "fresh" are for the figures. All sentences about one quote are in one split.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Sequence

from benchmarks import machine
from benchmarks.quality.stats import wilson
from benchmarks.quality.subject import Subject, load
from mm1cli.grounding import citations
from mm1cli.grounding.attribution import text_gains
from mm1cli.grounding.claims import Candidate, claims, words_say
from mm1cli.grounding.entailment import Entailment
from mm1cli.grounding.judgement import UNMEASURED, ByAnswer, Judgement, judgement
from mm1cli.grounding.words import words
from mm1cli.result import Mark
from tests.evidence.claims import KEPT_ASIDE, SPLITS, Pair, pairs

_OVERLAP = 0.8

Row = dict[str, object]
Judge = Callable[[Pair], Mark | None]  # None: no time was left


def by_overlap(pair: Pair) -> Mark:
    wanted = {word.stem for word in words(pair.sentence) if word.is_content}
    has = {word.stem for word in words(pair.quote)}
    numbers = citations.numbers(pair.sentence)
    has_numbers = all(citations.contains_number(pair.quote, number) for number in numbers)
    is_carried = has_numbers and len(wanted & has) >= _OVERLAP * len(wanted)
    return Mark.CARRIED if is_carried else Mark.NOT_CARRIED


def by_words(pair: Pair) -> Mark:
    return _mark(pair, [Candidate(n, text) for n, text in enumerate(pair.texts, 1)])


def by_model(subject: Subject, deadline: float) -> Judge:
    judged = judgement(subject.name, Entailment(subject.engine).log_odds)
    is_asked = isinstance(judged, ByAnswer)

    def judge(pair: Pair) -> Mark | None:
        verdict = words_say(pair.sentence, pair.quote)
        if verdict.is_firm or not (is_asked or verdict.mark is None):
            return by_words(pair)
        if time.monotonic() > deadline:
            return None
        if is_asked:
            return _mark(pair, [Candidate(1, pair.quote)], judged)
        gains = text_gains(subject.engine, pair.question, pair.sentence, pair.texts) or []
        scored = zip(pair.texts, gains, strict=True)
        return _mark(pair, [Candidate(n, *one) for n, one in enumerate(scored, 1)], judged)

    return judge


def _mark(pair: Pair, candidates: Sequence[Candidate], judged: Judgement = UNMEASURED) -> Mark:
    """The first candidate is the quote."""
    (claim,) = claims(pair.sentence, candidates, judged)
    if claim.against:
        return Mark.CONTRADICTED
    return Mark.CARRIED if 1 in claim.citations else Mark.NOT_CARRIED


def measure(name: str, judge: Judge) -> list[Row]:
    began = time.monotonic()
    judged = [(pair, mark) for pair in pairs() if (mark := judge(pair)) is not None]
    seconds = time.monotonic() - began
    rows: list[Row] = []
    for split in SPLITS:
        own = [(pair, mark) for pair, mark in judged if pair.split == split]
        total = sum(pair.split == split for pair in pairs())
        rows.append(_row(name, split, "all", own) | {"left_out": total - len(own)})
        for kind in dict.fromkeys(pair.kind for pair, _ in own):
            rows.append(_row(name, split, kind, [one for one in own if one[0].kind == kind]))
    print(f"\n{name}: {seconds:.0f} s")
    for row in rows:
        print(f"  {row['split']:<9} {row['kind']:<14} {row['told']}")
    print("  by hand -> told (held out and fresh)")
    kept_aside = [one for one in judged if one[0].split in KEPT_ASIDE]
    confusion = Counter((pair.mark, mark) for pair, mark in kept_aside)
    for (by_hand, told), count in sorted(confusion.items()):
        print(f"    {by_hand:<13} -> {told:<13} {count}")
    return [row | {"seconds": seconds} for row in rows]


def _row(name: str, split: str, kind: str, judged: Sequence[tuple[Pair, Mark]]) -> Row:
    told = [pair for pair, mark in judged if mark is Mark.CARRIED]
    right = sum(pair.mark is Mark.CARRIED for pair in told)
    wanted = sum(pair.mark is Mark.CARRIED for pair, _ in judged)
    precision = wilson(right, len(told)) if told else None
    recall = wilson(right, wanted) if wanted else None
    return {
        "judge": name,
        "split": split,
        "kind": kind,
        "pairs": len(judged),
        "precision": precision and precision.as_json(),
        "recall": recall and recall.as_json(),
        "told": f"precision {precision or 'none told'}; recall {recall or 'none to find'}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", default=[], help="a name or a folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=30.0, help="for each model")
    options = parser.parse_args()
    rows = measure("overlap", by_overlap) + measure("words", by_words)
    for name in options.model:
        (subject,) = load([name], options.threads)
        rows += measure(subject.name, by_model(subject, time.monotonic() + 60 * options.minutes))
    machine.print_result("claims", rows)


if __name__ == "__main__":
    main()
