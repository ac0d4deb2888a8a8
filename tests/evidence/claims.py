"""Sentences, quotes and what the quotes say of them: `claims.jsonl`, written by hand.

    {"sentence", "quote", "others": [...], "question", "mark", "kind", "split"}

`kind` is what makes it hard; `mark` is what the quote and the other passages say together. All
sentences about one quote are in one `split`. Rules are made on "dev", weights on "fit" too; errors
of the others are counted and not looked at. "fit" and "fresh" were written before any rule was made
that they judge, in the words of answers and not of the quotes.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from mm1cli.result import Mark

SPLITS = ("dev", "fit", "held out", "fresh")
KEPT_ASIDE = SPLITS[2:]
PATH = Path(__file__).with_name("claims.jsonl")


@dataclass(frozen=True, slots=True)
class Pair:
    sentence: str
    quote: str
    others: tuple[str, ...]
    question: str
    mark: Mark
    kind: str
    split: str

    @property
    def texts(self) -> tuple[str, ...]:
        return self.quote, *self.others


def pairs() -> list[Pair]:
    lines = PATH.read_text(encoding="utf-8").splitlines()
    return [
        Pair(**one | {"mark": Mark(one["mark"]), "others": tuple(one["others"])})
        for one in map(json.loads, lines)
    ]
