"""Every answer that was given, in one SQLite file that only its owner can read.

What is logged is what `--json` has of an answer, and of what: `corpus` is a hash of the documents'
own, so that two answers can be known to rest on the same.
"""

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm1cli.errors import InputError
from mm1cli.ingest.corpus import Document
from mm1cli.models import library

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    id INTEGER PRIMARY KEY, made REAL NOT NULL, command TEXT NOT NULL, model TEXT NOT NULL,
    seed INTEGER NOT NULL, corpus TEXT NOT NULL, question TEXT NOT NULL, answer TEXT NOT NULL,
    told TEXT NOT NULL);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(question, answer, sources);
"""
_COLUMNS = ", ".join(
    f"answers.{name}"
    for name in ["id", "made", "command", "model", "seed", "corpus", "question", "answer", "told"]
)
_WAIT_S = 5.0
_LARGEST_NUMBER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """`told` is the answer as `--json` has it; `made_s` is seconds since 1970."""

    number: int
    made_s: float
    command: str
    model: str
    seed: int
    corpus: str
    question: str
    answer: str
    told: dict[str, Any]

    def as_json(self) -> dict[str, object]:
        made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.made_s))
        head = {"id": self.number, "made": made, "command": self.command, "model": self.model}
        return {**head, "corpus": self.corpus, **self.told}


def path() -> Path:
    return library.data_dir() / "answers.db"


def corpus_hash(documents: Sequence[Document]) -> str:
    """Of names and contents, in any order."""
    lines = sorted(f"{document.sha256} {document.path}\n" for document in documents)
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


class AnswerLog:
    """Raises InputError where the file is no log, is damaged or cannot be read, and OSError or
    sqlite3.Error where it cannot be written."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or path()

    def add(
        self, command: str, model: str, corpus: str, told: dict[str, Any], made_s: float
    ) -> int:
        """The number of the entry, from 1."""
        row = (made_s, command, model, told["seed"], corpus, told["question"], told["answer"])
        sources = " ".join(one["text"] for one in told["citations"])
        with closing(self._open(is_made=True)) as database, database:
            added = database.execute(
                "INSERT INTO answers (made, command, model, seed, corpus, question, answer, told)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, json.dumps(told)),
            )
            number = added.lastrowid or 0
            database.execute(
                "INSERT INTO words (rowid, question, answer, sources) VALUES (?, ?, ?, ?)",
                (number, told["question"], told["answer"], sources),
            )
        return number

    def newest(self, most: int) -> list[Entry]:
        return list(self._select("ORDER BY id DESC LIMIT ?", (most,)))

    def all(self) -> Iterator[Entry]:
        return self._select("ORDER BY id", ())

    def get(self, number: int) -> Entry:
        if 0 < number <= _LARGEST_NUMBER:
            for entry in self._select("WHERE id = ?", (number,)):
                return entry
        raise InputError(f"no answer number {number} in the log; `mm1 logs` lists the last ones")

    def search(self, words: str, most: int) -> list[Entry]:
        """Those whose question, answer or quoted sources have all of `words`, best first."""
        wanted = " ".join(f'"{word}"' for word in words.replace('"', " ").split())
        if not wanted:
            return []
        joined = "JOIN words ON words.rowid = answers.id WHERE words MATCH ?"
        return list(self._select(f"{joined} ORDER BY rank, id DESC LIMIT ?", (wanted, most)))

    def _select(self, rest: str, values: tuple[object, ...]) -> Iterator[Entry]:
        if not self._file.exists():
            return
        try:
            with closing(self._open()) as database:
                for row in database.execute(f"SELECT {_COLUMNS} FROM answers {rest}", values):
                    fields: tuple[Any, ...] = (*row[:-1], json.loads(row[-1]))
                    yield Entry(*fields)
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise InputError(f"{self._file} cannot be read ({error}); move it away") from None

    def _open(self, *, is_made: bool = False) -> sqlite3.Connection:
        if is_made:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600))
            self._file.chmod(0o600)
        database = sqlite3.connect(self._file, timeout=_WAIT_S)
        try:
            database.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            database.close()
            if "not a database" in str(error):
                raise InputError(f"{self._file} is no log of mm1; move it away") from None
            raise
        return database
