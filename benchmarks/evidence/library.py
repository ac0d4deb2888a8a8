"""The documents of tests/evidence as the product reads them, and plain search in them."""

import re
import sqlite3
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from benchmarks.quality.work import digest
from mm1cli.ingest import read_corpus
from mm1cli.ingest.corpus import Corpus
from mm1cli.retrieval.bm25 import Bm25Index
from mm1cli.retrieval.headings import header_rows
from mm1cli.retrieval.passages import Passage, passages
from mm1cli.retrieval.retriever import PIECE_SENTENCES
from tests.evidence.corpus import Question, texts, write


class Library:
    """The documents as the product reads them, and where each question's gold stands."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            read = read_corpus([folder])
            # The folder's name differs from run to run, and the judge reads paths.
            named = [
                replace(document, path=str(Path(document.path).relative_to(folder)))
                for document in read.documents
            ]
        self.corpus = Corpus(tuple(named))
        self.passages = passages(self.corpus)
        self.digest = digest(texts())

    @cached_property
    def index(self) -> Bm25Index:
        return Bm25Index(self.passages)

    @cached_property
    def plain_passages(self) -> "Plain":
        return Plain(self.passages)

    @cached_property
    def plain_pieces(self) -> "Plain":
        return Plain([span for one in self.passages for span in one.spans(PIECE_SENTENCES)])

    def place(self, passage: Passage) -> tuple[int, int, int, int]:
        """Which it is: the numbers of document and block, and where it begins and ends."""
        document = next(n for n, d in enumerate(self.corpus.documents) if d is passage.document)
        blocks = passage.document.blocks
        block = next(n for n, one in enumerate(blocks) if one is passage.block)
        return document, block, passage.start, passage.end

    def at(self, document: int, block: int, start: int, end: int) -> Passage:
        found = self.corpus.documents[document]
        header = header_rows(found)[block]
        return Passage(found, found.blocks[block], start, end, header=header)

    def is_gold(self, question: Question, passage: Passage) -> bool:
        return any(
            passage.document.path == gold.path
            and (at := passage.block.text.find(gold.text)) >= 0
            and passage.start < at + len(gold.text)
            and at < passage.end
            for gold in question.gold
        )


class Plain:
    """FTS5 bm25 of the text alone: what anybody has without a model."""

    def __init__(self, found: Sequence[Passage]) -> None:
        self._found = found
        self._database = sqlite3.connect(":memory:")
        self._database.execute("CREATE VIRTUAL TABLE t USING fts5(x, tokenize='porter unicode61')")
        rows = ((number, one.text) for number, one in enumerate(found))
        self._database.executemany("INSERT INTO t(rowid, x) VALUES (?, ?)", rows)

    def search(self, question: str, limit: int) -> list[Passage]:
        """The best that do not overlap one another."""
        words = dict.fromkeys(re.findall(r"\w+", question.lower()))
        query = " OR ".join(f'"{word}"' for word in words)
        rows = self._database.execute(
            "SELECT rowid FROM t WHERE t MATCH ? ORDER BY rank, rowid LIMIT ?", (query, 4 * limit)
        )
        chosen: list[Passage] = []
        for (row,) in rows:
            if not any(self._found[row].overlaps(one) for one in chosen):
                chosen.append(self._found[row])
        return chosen[:limit]
