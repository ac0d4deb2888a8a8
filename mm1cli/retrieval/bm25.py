"""The lexical half of retrieval: an inverted index ranked by bm25."""

import sqlite3
from collections.abc import Sequence
from typing import ClassVar

from mm1cli.code.grammars import is_code
from mm1cli.ingest.corpus import Block
from mm1cli.retrieval.passages import Passage, Ranked, with_heading
from mm1cli.retrieval.terms import index_text, query_terms, without_stop_words


class Bm25Index:
    """SQLite FTS5 over passages, in memory: unaccented, stemmed words, ranked by bm25.

    A passage is also found by the path, the title, the headings and the definitions it stands
    under. Source code has columns of its own, in which stop words are not looked for.
    """

    COLUMNS: ClassVar[dict[str, float]] = {"path": 0.5, "heading": 0.5, "text": 1.0}
    CODE_COLUMNS: ClassVar[dict[str, float]] = {"names": 0.5, "code": 1.0}

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages
        # Questions answered together have a thread each, of which one runs at a time.
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        columns = ", ".join((*self.COLUMNS, *self.CODE_COLUMNS))
        self._database.execute(
            f"CREATE VIRTUAL TABLE passages USING fts5({columns}, tokenize='porter unicode61')"
        )
        self._database.executemany(
            f"INSERT INTO passages(rowid, {columns}) VALUES (?, ?, ?, ?, ?, ?)",
            ((i, *_columns(passage)) for i, passage in enumerate(passages)),
        )

    @property
    def longest_bytes(self) -> int:
        """Of a passage as it is read."""
        texts = (with_heading(passage) for passage in self._passages)
        return max((len(text.encode()) for text in texts), default=0)

    def holding(self, block: Block, start: int, end: int) -> list[Passage]:
        """The passages that have a part of `block.text[start:end]`."""
        return [
            one
            for one in self._passages
            if one.block is block and one.start < end and start < one.end
        ]

    def search(self, question: str, limit: int) -> list[Passage]:
        """The passages that share words with `question`, best first.

        Where fewer than `limit` do, passages follow in reading order, so that the judge always
        has something to choose from.
        """
        return [one.passage for one in self.scored(question, limit)]

    def scored(self, question: str, limit: int) -> list[Ranked]:
        """`search` with the bm25 of each passage, higher is better, 0 without a shared word."""
        rows: dict[int, float] = {}
        if query := self._query(question):
            found = self._database.execute(
                "SELECT rowid, bm25(passages, ?, ?, ?, ?, ?) AS score FROM passages "
                "WHERE passages MATCH ? ORDER BY score, rowid LIMIT ?",
                (*self.COLUMNS.values(), *self.CODE_COLUMNS.values(), query, limit),
            )
            rows = {row: -score for row, score in found}
        others = (row for row in range(len(self._passages)) if row not in rows)
        rest = [row for row, _ in zip(others, range(limit - len(rows)), strict=False)]
        rows |= dict.fromkeys(rest, 0.0)
        return [Ranked(self._passages[row], score) for row, score in rows.items()]

    def _query(self, question: str) -> str:
        terms = query_terms(question)
        parts = [(self.COLUMNS, terms), (self.CODE_COLUMNS, without_stop_words(terms))]
        return " OR ".join(
            f"{{{' '.join(columns)}}}: ({' OR '.join(_quoted(term) for term in words)})"
            for columns, words in parts
            if words
        )


def _columns(passage: Passage) -> tuple[str, str, str, str, str]:
    path, names = index_text(passage.document.path), index_text(" ".join(passage.names))
    text = index_text(passage.text)
    if is_code(passage.document):
        return "", "", "", f"{path} {names}", text
    return path, names, text, "", ""


def _quoted(term: str) -> str:
    return f'"{term}"'
