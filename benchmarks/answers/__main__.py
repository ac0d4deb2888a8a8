"""How often evidence and sentence are right, and what warnings are worth, models side by side.

    python -m benchmarks.answers [--model mini --model small] [--set FILE]... [--sample N]

Each set (see benchmarks/answers/sets.py; of tests/evidence `everyday`, `superseding` and `papers`
if none is named) is asked once per model. `extract` is the best piece of evidence, word for word.
A sentence is right if it holds a gold string; those that do not are printed to be read, and
`--judged` is a file of what a reader says of them: {"question", "answer", "right"} a line.
Thresholds are chosen on the dev half. Intervals: Wilson, 95 %; bootstrap for AUROC.
`--sample N` draws so many of each set by --seed; a larger sample begins with a smaller one.
"""

import argparse
import json
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.answers.measure import Product
from benchmarks.answers.report import Judgements, Outcome, report, to_judge
from benchmarks.answers.sets import SETS, Item, load
from benchmarks.quality.command import Command, left_out, main, positive
from benchmarks.quality.subject import Subject
from benchmarks.quality.table import Table
from benchmarks.quality.work import Work
from mm1cli.models.ability import measured

NAMES = ("everyday", "superseding", "papers")
JUDGED = SETS / "judged.jsonl"


def build(subjects: Sequence[Subject], options: argparse.Namespace, work: Work) -> Table:
    table = Table("answers", "Answers: evidence, sentences, warnings")
    judged = judgements(options.judged)
    paths = options.set or default_sets()
    sets = {path.stem: drawn(load(path), options.sample, options.seed) for path in paths}
    for subject in subjects:
        product = Product(subject)
        work.stage(f"answers, {subject.name}", sum(map(len, sets.values())))
        for name, items in sets.items():
            found = []
            for item in items:
                result = work.do(product.key(item), partial(product.measure, item))
                if result is not None:
                    by_hand = judged.get((item.text, result["text"]))
                    found.append(Outcome(item, result, by_hand, subject.name))
            report(table, name, subject.name, found, measured(subject.engine.fingerprint))
            for line in to_judge(found):
                print(json.dumps({"model": subject.name, **line}, ensure_ascii=False))
        left_out(table, work, subject.name)
    return table


def drawn(items: list[Item], num: int | None, seed: int) -> list[Item]:
    """All in their order, or `num` at random: of a run that is stopped a fair part is left."""
    if num is None:
        return items
    return random.Random(seed).sample(items, len(items))[:num]


def default_sets() -> list[Path]:
    return [SETS / f"{name}.jsonl" for name in NAMES]


def judgements(path: Path) -> Judgements:
    if not path.exists():
        return {}
    records = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {(one["question"], one["answer"]): one["right"] for one in records}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--set", type=Path, action="append", help="a set of questions; repeat it")
    parser.add_argument("--sample", type=positive, help="so many of each set, drawn by --seed")
    parser.add_argument("--judged", type=Path, default=JUDGED, help="sentences read by hand")


COMMAND = Command("answers", __doc__ or "", add_options, build, package="benchmarks")

if __name__ == "__main__":
    main(COMMAND)
