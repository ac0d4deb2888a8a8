"""Which passages carry an answer: candidates by bm25, their order by the model's own judgement.

The judge is likelihood, never free text: log p(question | text) says whether a text is what the
question asks about. A model that is too small to write well still judges well.
"""

import re
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.engine import Engine, Turn
from mm1cli.passages import Passage
from mm1cli.prompts import prompt

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A passage and its score: mean log-likelihood, nats per token, higher is better."""

    passage: Passage
    score: float


class Index:
    """SQLite FTS5 over passages, in memory: unaccented, stemmed words, ranked by bm25."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages
        self._database = sqlite3.connect(":memory:")
        self._database.execute(
            "CREATE VIRTUAL TABLE passages USING fts5(path, text, tokenize='porter unicode61')"
        )
        self._database.executemany(
            "INSERT INTO passages(rowid, path, text) VALUES (?, ?, ?)",
            ((i, p.document.path, p.text) for i, p in enumerate(passages)),
        )

    def search(self, question: str, limit: int) -> list[Passage]:
        """The passages that share words with `question`, best first.

        Where fewer than `limit` do, passages follow in reading order, so that the judge always
        has something to choose from.
        """
        words = dict.fromkeys(re.findall(r"\w+", question.lower()))
        query = " OR ".join(f'"{word}"' for word in words)
        rows: list[int] = []
        if query:
            found = self._database.execute(
                "SELECT rowid FROM passages WHERE passages MATCH ? "
                "ORDER BY bm25(passages, 0.5, 1.0), rowid LIMIT ?",
                (query, limit),
            )
            rows = [row for (row,) in found]
        known = set(rows)
        others = (row for row in range(len(self._passages)) if row not in known)
        rows += [row for row, _ in zip(others, range(limit - len(rows)), strict=False)]
        return [self._passages[row] for row in rows]


class Judge:
    """Orders texts by log p(question | text), as one model gives it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def rank(
        self, question: str, candidates: Sequence[Passage], on_progress: OnProgress
    ) -> list[Ranked]:
        """`candidates`, best first; `on_progress` gets how many are judged, and of how many."""
        ranked = []
        for done, passage in enumerate(candidates, 1):
            ranked.append(Ranked(passage, self._score(passage, question)))
            on_progress(done, len(candidates))
        return sorted(ranked, key=lambda one: -one.score)

    def _score(self, passage: Passage, question: str) -> float:
        tokenizer = self._engine.tokenizer
        turn = Turn("user", (passage.text, prompt("judge")))
        context = self._engine.new_context()
        context.extend(tokenizer.encode_chat([turn]))
        return float(context.score(tokenizer.encode(question)).mean())


def apart(ranked: Sequence[Ranked], limit: int) -> list[Ranked]:
    """The best `limit` of `ranked` that do not overlap one another."""
    chosen: list[Ranked] = []
    for one in ranked:
        if len(chosen) < limit and not any(one.passage.overlaps(c.passage) for c in chosen):
            chosen.append(one)
    return chosen
