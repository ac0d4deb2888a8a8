"""Which passages carry an answer: candidates by bm25, their order by the model's own judgement.

The judge is likelihood, never free text: log p(question | text) says whether a text is what the
question asks about. A model that is too small to write well still judges well. It is told where a
text stands, since twins differ in nothing else: log p(question | path, title, headings, text). Its
judgement and bm25 together are better than either.
"""

import re
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from engine.engine import Engine, Turn
from mm1cli.ingest.corpus import Corpus
from mm1cli.passages import Passage, passages
from mm1cli.prompts import prompt

if TYPE_CHECKING:
    from engine.context import Context

NUM_CANDIDATES = 12  # passages the model judges
BM25_WEIGHT = 0.2  # nats for a point of bm25, in the order of passages; see docs/log.md
NUM_PASSAGES = 3  # of these, passages whose sentences it judges
NUM_PIECES = 5  # of evidence that are told apart
PIECE_SENTENCES = 2  # "It cost 48 million." needs the sentence before it

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A passage and its score: mean log-likelihood, nats per token, higher is better."""

    passage: Passage
    score: float


class Index:
    """SQLite FTS5 over passages, in memory: unaccented, stemmed words, ranked by bm25.

    A passage is also found by the path, the title and the headings it stands under.
    """

    WEIGHTS = (0.5, 0.5, 1.0)  # of a word in the path, in title and headings, in the text

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages
        # Questions answered together have a thread each, of which one runs at a time.
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        self._database.execute(
            "CREATE VIRTUAL TABLE passages USING fts5("
            "path, heading, text, tokenize='porter unicode61')"
        )
        self._database.executemany(
            "INSERT INTO passages(rowid, path, heading, text) VALUES (?, ?, ?, ?)",
            (
                (i, p.document.path, " ".join((p.title, *p.locator.headings)), p.text)
                for i, p in enumerate(passages)
            ),
        )

    @property
    def longest_bytes(self) -> int:
        """Of a passage as it is read."""
        texts = (as_judged(passage) for passage in self._passages)
        return max((len(text.encode()) for text in texts), default=0)

    def search(self, question: str, limit: int) -> list[Passage]:
        """The passages that share words with `question`, best first.

        Where fewer than `limit` do, passages follow in reading order, so that the judge always
        has something to choose from.
        """
        return [one.passage for one in self.scored(question, limit)]

    def scored(self, question: str, limit: int) -> list[Ranked]:
        """`search` with the bm25 of each passage, higher is better, 0 without a shared word."""
        words = dict.fromkeys(re.findall(r"\w+", question.lower()))
        query = " OR ".join(f'"{word}"' for word in words)
        rows: dict[int, float] = {}
        if query:
            found = self._database.execute(
                "SELECT rowid, bm25(passages, ?, ?, ?) AS score FROM passages "
                "WHERE passages MATCH ? ORDER BY score, rowid LIMIT ?",
                (*self.WEIGHTS, query, limit),
            )
            rows = {row: -score for row, score in found}
        others = (row for row in range(len(self._passages)) if row not in rows)
        rest = [row for row, _ in zip(others, range(limit - len(rows)), strict=False)]
        rows |= dict.fromkeys(rest, 0.0)
        return [Ranked(self._passages[row], score) for row, score in rows.items()]


class Judge:
    """Orders texts by log p(question | text), as one model gives it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._head: Context | None = None  # what every judgement begins with, read once

    def rank(
        self, question: str, candidates: Sequence[Passage], on_progress: OnProgress
    ) -> list[Ranked]:
        """`candidates`, best first; `on_progress` gets how many are judged, and of how many."""
        num_done, asked = 0, self._engine.tokenizer.encode(question)

        def judged(passage: Passage, read: list[int]) -> Ranked:
            nonlocal num_done
            ranked = Ranked(passage, self._likelihood(asked, read))
            num_done += 1
            on_progress(num_done, len(candidates))
            return ranked

        num_head = len(self._read_head())
        read = [self._behind_head(as_judged(passage)) for passage in candidates]
        works = [partial(judged, *one) for one in zip(candidates, read, strict=True)]
        most = num_head + max(map(len, read), default=0) + len(asked)
        ranked = self._engine.each(works, most)
        return sorted(ranked, key=lambda one: -one.score)

    def score(self, question: str, text: str) -> float:
        """Mean log p of the question's tokens; of an empty `text`, as if nothing were there."""
        return self._likelihood(self._engine.tokenizer.encode(question), self._behind_head(text))

    def _likelihood(self, asked: list[int], read: list[int]) -> float:
        context = self._read_head().fork()
        context.extend(read)
        return float(context.score(asked).mean())

    def _behind_head(self, text: str) -> list[int]:
        tokenizer = self._engine.tokenizer
        _, *rest = tokenizer.chat([Turn("user", (text, prompt("judge")))])
        return [i for piece in rest for i in tokenizer.encode_piece(piece)]

    def _read_head(self) -> "Context":
        if self._head is None:
            tokenizer = self._engine.tokenizer
            head, *_ = tokenizer.chat([Turn("user", (prompt("judge"), prompt("judge")))])
            context = self._engine.new_context()
            context.extend(tokenizer.encode_piece(head))
            self._head = context  # not before it is read: others may wait for the model, too
        return self._head


def as_judged(passage: Passage) -> str:
    """The text of a passage as the model reads it by itself."""
    return f"{passage.heading}\n{passage.text}"


@dataclass(frozen=True, slots=True)
class Evidence:
    """`passages` by judgement and bm25 together, `pieces` (runs of sentences from the best of them)
    by judgement, each best first.

    `lift` is how much likelier a passage makes the question, in nats per token of it: the highest
    score over that of no text at all.
    """

    passages: tuple[Ranked, ...]
    pieces: tuple[Ranked, ...]
    lift: float


class Finder:
    """Finds evidence in one corpus."""

    def __init__(self, engine: Engine, corpus: Corpus) -> None:
        self._index = Index(passages(corpus))
        self._judge = Judge(engine)

    def most_tokens(self, num_passages: int) -> int:
        """So many passages have fewer: a token is at least a byte."""
        return num_passages * self._index.longest_bytes

    def find(
        self,
        question: str,
        on_progress: Callable[[str, int, int, str], None],
        num_passages: int = NUM_PASSAGES,
    ) -> Evidence:
        """At least `num_passages` passages, if there are so many, and up to `NUM_PIECES` pieces.

        `on_progress` gets what is done, how many, of how many, and of what.
        """
        candidates = self._index.scored(question, max(NUM_CANDIDATES, num_passages))
        bm25 = {id(one.passage): one.score for one in candidates}
        judged = self._judge.rank(
            question,
            [one.passage for one in candidates],
            lambda done, total: on_progress("judging passages", done, total, "passages"),
        )
        ranked = sorted(judged, key=lambda one: -one.score - BM25_WEIGHT * bm25[id(one.passage)])
        spans = [
            span for one in ranked[:NUM_PASSAGES] for span in one.passage.spans(PIECE_SENTENCES)
        ]
        pieces = self._judge.rank(
            question,
            spans,
            lambda done, total: on_progress("finding evidence", done, total, "quotes"),
        )
        lift = judged[0].score - self._judge.score(question, "") if judged else 0.0
        return Evidence(tuple(ranked), tuple(apart(pieces, NUM_PIECES)), lift)


def apart(ranked: Sequence[Ranked], limit: int) -> list[Ranked]:
    """The best `limit` of `ranked` that do not overlap one another."""
    chosen: list[Ranked] = []
    for one in ranked:
        if len(chosen) < limit and not any(one.passage.overlaps(c.passage) for c in chosen):
            chosen.append(one)
    return chosen
