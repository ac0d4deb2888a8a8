"""Does a training text repeat an evaluation text? By shared runs of 13 words (arXiv 2005.14165).

The evaluation texts are those a checkout can see: the books beside it in shared/corpora, what the
benchmarks ask, and the example papers; more by --exclude.
"""

import gzip
import json
import lzma
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

NUM_WORDS = 13
ROOT = Path(__file__).resolve().parent.parent
_READERS = {".gz": gzip.decompress, ".xz": lzma.decompress}
_TEXT, _JSON = {".txt", ".md"}, {".json", ".jsonl"}


def runs(text: str, num_words: int = NUM_WORDS) -> Iterator[int]:
    """A hash of each run of so many words, whatever their case and punctuation."""
    words = re.findall(r"\w+", text.lower())
    for start in range(len(words) - num_words + 1):
        yield hash(tuple(words[start : start + num_words]))


class Overlap:
    """Knows the runs of the evaluation texts; memory grows with their length."""

    def __init__(self, evaluation: Iterable[str]) -> None:
        self._known = frozenset(run for text in evaluation for run in runs(text))

    @classmethod
    def with_evaluation(cls, more: Sequence[Path] = (), root: Path = ROOT) -> "Overlap":
        """With the texts of `evaluation_files` and of `more`, read once in a process."""
        overlap = cls(())
        overlap._known = _runs_of_files((*evaluation_files(root), *more))
        return overlap

    def shares_with(self, text: str) -> bool:
        """Whether `text` has a run of 13 words in common with an evaluation text."""
        return bool(self._known) and any(run in self._known for run in runs(text))


def evaluation_files(root: Path = ROOT) -> list[Path]:
    """The evaluation texts that can be seen from the checkout at `root`."""
    folders = (root.parent / "shared" / "corpora", root / "benchmarks", root / "examples")
    found = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in found if _kind(path) in _TEXT | _JSON]


def evaluation_text(path: Path) -> str:
    """What is in the file: .gz and .xz are opened, of JSON the strings are taken."""
    text = _READERS.get(path.suffix, bytes)(path.read_bytes()).decode("utf-8")
    if _kind(path) not in _JSON:
        return text
    lines = text.splitlines() if _kind(path) == ".jsonl" else [text]
    return "\n".join(s for line in lines if line.strip() for s in _strings(json.loads(line)))


@cache
def _runs_of_files(paths: tuple[Path, ...]) -> frozenset[int]:
    return frozenset(run for path in paths for run in runs(evaluation_text(path)))


def _kind(path: Path) -> str:
    """The suffix of what is in the file, whether compressed or not."""
    return Path(path.stem).suffix if path.suffix in _READERS else path.suffix


def _strings(value: Any) -> Iterator[str]:  # noqa: ANN401 (JSON)
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)
