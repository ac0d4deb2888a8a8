"""Real files, as many as there are: each is a document or an omission, and none breaks a reader."""

import os
import stat
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from mm1cli.ingest.corpus import Document
from mm1cli.ingest.path_filter import PathFilter
from mm1cli.ingest.read import ReadOptions, read_files

_BROKEN = ("crashed", "malformed", "out of memory", "stopped after")
_TOLD = 20


def account(folders: Sequence[Path]) -> dict[str, object]:
    """Prints what is missing and what broke a reader, and counts the rest."""
    options = ReadOptions(
        path_filter=PathFilter.of((), (), hidden=True, gitignore=False), allow_secrets=True
    )
    started = time.perf_counter()
    named: set[str] = set()
    kinds, reasons = Counter[str](), Counter[str]()
    broken: list[str] = []
    num_chars = 0
    for one in read_files([str(folder) for folder in folders], options=options):
        named.add(one.path)
        if isinstance(one, Document):
            kinds[one.kind] += 1
            num_chars += sum(len(block.text) for block in one.blocks)
            told = " ".join(one.warnings)
        else:
            reasons[str(one.reason)] += 1
            told = one.detail
        if any(words in told for words in _BROKEN):
            broken.append(f"{one.path}: {told}")
    files = {str(path) for folder in folders for path in _regular(folder)}
    missing = sorted(path for path in files if path not in named)
    seconds = time.perf_counter() - started
    for title, paths in (("missing", missing), ("broke a reader", broken)):
        print(f"{title}: {len(paths):,}")
        for path in paths[:_TOLD]:
            print(f"  {path}")
    print(f"{len(files):,} files, {sum(kinds.values()):,} documents, {num_chars:,} characters")
    print(", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common()))
    print(", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common()))
    return {
        "files": len(files),
        "missing": len(missing),
        "broken": len(broken),
        "documents": sum(kinds.values()),
        "characters": num_chars,
        "kinds": dict(kinds),
        "left_out": dict(reasons),
        "s": round(seconds, 1),
    }


def _regular(folder: Path) -> Iterator[Path]:
    """What is no link and no device, and not in a repository of git's."""
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != ".git"]
        for name in names:
            path = Path(where, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path
