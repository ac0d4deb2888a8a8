"""What the files of `mm1 map` come to together: every document once, totals that add up."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mm1cli.errors import UsageError
from mm1cli.mapping.lines import Header, Shard, header_of, lines


@dataclass(slots=True)
class Totals:
    """Of documents; `unfinished` are files without their last line, `missing` shards without a
    file."""

    documents: int = 0
    left_out: int = 0
    failed: int = 0
    found: int = 0
    tokens: int = 0
    unverified: int = 0
    unfinished: list[str] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)

    @property
    def seen(self) -> int:
        return self.documents + self.left_out + self.failed

    def as_json(self) -> dict[str, object]:
        names = ("documents", "left_out", "failed", "found", "tokens", "unverified")
        told: dict[str, object] = {"type": "totals", "seen": self.seen}
        told |= {name: getattr(self, name) for name in names}
        return told | {"unfinished": self.unfinished, "missing": self.missing}

    def add(self, told: dict[str, Any]) -> None:
        kind = told.get("type")
        if kind == "left out":
            self.left_out += 1
        elif kind == "failed":
            self.failed += 1
        elif kind == "document":
            self.documents += 1
            answers = told.get("answers") or []
            self.found += any(one.get("is_found") for one in answers)
            self.unverified += sum(len(one.get("unverified") or ()) for one in answers)
            self.tokens += int(told["manifest"]["totals"]["tokens"])


def merge(paths: Sequence[Path], on_line: Callable[[dict[str, Any]], None]) -> Totals:
    """`on_line` gets each document's line, that of a document that failed if it never did better.

    Raises InputError for other files; UsageError where they are not parts of one run, or a document
    stands in two.
    """
    totals, first = Totals(), None
    seen: set[str] = set()
    shards: set[Shard] = set()
    for path in paths:
        failed: dict[str, dict[str, Any]] = {}
        is_finished, header = False, None
        for told, _ in lines(path):
            if header is None:
                header = header_of(path, told)
                first = first or header
                _require_part(path, header, first, shards)
                continue
            is_finished = told.get("type") == "end"
            name = str(told.get("name"))
            if told.get("type") == "failed":
                failed[name] = told
            elif not is_finished:
                if name in seen:
                    raise UsageError(f"{path}: {name} is in another file, too; give each file once")
                seen.add(name)
                failed.pop(name, None)
                totals.add(told)
                on_line(told)
        for told in failed.values():
            totals.add(told)
            on_line(told)
        if not is_finished:
            totals.unfinished.append(str(path))
    if first is not None:
        there = {shard.number for shard in shards}
        totals.missing = [n for n in range(1, first.shard.count + 1) if n not in there]
    return totals


def _require_part(path: Path, header: Header, first: Header, shards: set[Shard]) -> None:
    if replace(header, shard=first.shard) != first or header.shard.count != first.shard.count:
        raise UsageError(f"{path}: is of another run than the first file; merge each by itself")
    if header.shard in shards:
        raise UsageError(f"{path}: shard {header.shard.number} is there twice; give each file once")
    shards.add(header.shard)
