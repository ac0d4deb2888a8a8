"""The lexical half of retrieval: an inverted index ranked by bm25."""

import re
import sqlite3
from collections.abc import Sequence

from mm1cli.retrieval.passages import Passage, Ranked, with_heading


class Bm25Index:
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
        texts = (with_heading(passage) for passage in self._passages)
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
