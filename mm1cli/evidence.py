"""Which passages carry an answer: candidates by bm25, their order by the model's own judgement.

The judge is likelihood, never free text: log p(question | passage) says whether a passage is what
the question asks about; for single sentences the answer counts too. A model that is too small to
write well still judges well.
"""

import re
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.engine import Engine, Turn
from mm1cli.passages import Passage
from mm1cli.prompts import prompt

if TYPE_CHECKING:
    from engine.context import Context

NUM_CANDIDATES = 8

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


def rank_passages(
    engine: Engine, question: str, candidates: Sequence[Passage], on_progress: OnProgress
) -> list[Ranked]:
    """`candidates` by log p(question | passage), best first."""
    judge = _Judge(engine)
    ranked = []
    for done, passage in enumerate(candidates, 1):
        ranked.append(Ranked(passage, judge.question(passage, question)))
        on_progress(done, len(candidates))
    return _best_first(ranked)


def rank_sentences(
    engine: Engine,
    question: str,
    answer: str,
    candidates: Sequence[Passage],
    on_progress: OnProgress,
) -> list[Ranked]:
    """The sentences of `candidates` by log p(question | s) + log p(answer | s, question)."""
    judge = _Judge(engine)
    sentences = [sentence for passage in candidates for sentence in passage.sentences()]
    ranked = []
    for done, sentence in enumerate(sentences, 1):
        score = judge.question(sentence, question)
        if answer.strip():
            score += judge.answer(sentence, question, answer)
        ranked.append(Ranked(sentence, score))
        on_progress(done, len(sentences))
    return _best_first(ranked)


def _best_first(ranked: list[Ranked]) -> list[Ranked]:
    return sorted(ranked, key=lambda r: -r.score)


class _Judge:
    """Scores text the assistant could say about a passage."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def question(self, passage: Passage, question: str) -> float:
        return self._mean_log_p((passage.text, prompt("judge_question")), question)

    def answer(self, passage: Passage, question: str, answer: str) -> float:
        return self._mean_log_p((passage.text, "\n\n", question), answer)

    def _mean_log_p(self, parts: tuple[str, ...], reply: str) -> float:
        tokenizer = self._engine.tokenizer
        pieces = tokenizer.chat([Turn("user", parts)])
        context: Context = self._engine.new_context()
        context.extend([i for piece in pieces for i in tokenizer.encode_piece(piece)])
        return float(context.score(tokenizer.encode(reply)).mean())
