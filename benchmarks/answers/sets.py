"""Sets of questions: JSON lines, one question each, and the documents that they are about.

    {"question", "gold": [strings, any of which is right], "file": where it stands or null,
     "unanswerable": bool, "collection": a folder, from the set's own, or "documents": {name: text}}

Optional are "kind", "split" ("dev" or "held-out") and "superseded": strings of an earlier answer
that no longer holds.
"""

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.quality.work import digest
from mm1cli.grounding.quote_index import QuoteIndex
from mm1cli.ingest import read_corpus
from mm1cli.ingest.corpus import Corpus
from mm1cli.retrieval.bm25 import Bm25Index
from mm1cli.retrieval.passages import passages

SETS = Path(__file__).parents[2] / "tests" / "evidence"
DEV = "dev"


@dataclass(frozen=True)
class Collection:
    """Documents that are asked about together: a folder, or texts by name."""

    folder: Path | None = None
    documents: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def corpus(self) -> Corpus:
        """As the product reads it; paths go from the folder's own name."""
        if self.folder is not None:
            return _read(self.folder, self.folder.parent)
        with tempfile.TemporaryDirectory() as folder:
            for name, text in self.documents.items():
                (Path(folder) / name).write_text(text, encoding="utf-8", newline="\n")
            return _read(Path(folder), Path(folder))

    @cached_property
    def quotable(self) -> QuoteIndex:
        return QuoteIndex(self.corpus)

    @cached_property
    def index(self) -> Bm25Index:
        return Bm25Index(passages(self.corpus))

    @cached_property
    def digest(self) -> str:
        return digest([[one.path, one.sha256] for one in self.corpus.documents])


def _read(folder: Path, root: Path) -> Corpus:
    read = read_corpus([str(folder)])
    named = (replace(one, path=str(Path(one.path).relative_to(root))) for one in read.documents)
    return Corpus(tuple(named))


@dataclass(frozen=True, slots=True)
class Item:
    text: str
    gold: tuple[str, ...]
    superseded: tuple[str, ...]
    file: str
    kind: str
    split: str
    is_answerable: bool
    collection: Collection

    @property
    def is_dev(self) -> bool:
        return self.split == DEV

    def is_right(self, text: str) -> bool:
        return holds(text, self.gold)

    def is_gold(self, path: str, text: str) -> bool:
        return self.is_right(text) and (not self.file or Path(path).name == Path(self.file).name)


def load(path: Path) -> list[Item]:
    """In the order of the file. Raises ValueError for a line that is no question."""
    collections: dict[str, Collection] = {}
    items = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            items.append(_item(json.loads(line), path.parent, collections))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: no question ({error!r})") from None
    return items


def _item(record: dict[str, Any], root: Path, collections: dict[str, Collection]) -> Item:
    if "documents" in record:
        collection = Collection(documents=record["documents"])
    else:
        name = record["collection"]
        collection = collections.setdefault(name, Collection((root / name).resolve()))
    gold, is_answerable = tuple(record["gold"]), not record["unanswerable"]
    if bool(gold) != is_answerable:
        raise ValueError("gold is there exactly where there is an answer")
    return Item(
        text=record["question"],
        gold=gold,
        superseded=tuple(record.get("superseded", ())),
        file=record["file"] or "",
        kind=record.get("kind", "answerable" if is_answerable else "unanswerable"),
        split=record.get("split", DEV),
        is_answerable=is_answerable,
        collection=collection,
    )


def holds(text: str, wanted: Sequence[str]) -> bool:
    """Whether one of `wanted` stands in `text`, a number as a number of its own; case and spacing
    are one."""
    flat = " ".join(text.split()).casefold()
    return any(_pattern(" ".join(one.split()).casefold()).search(flat) for one in wanted)


def _pattern(wanted: str) -> re.Pattern[str]:
    before = r"(?<![\w.,])" if wanted[:1].isdigit() else r"(?<!\w)"
    after = r"(?![.,]?\d)" if wanted[-1:].isdigit() else ""
    return re.compile(before + re.escape(wanted) + after)
