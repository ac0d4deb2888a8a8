"""Findings that are known: a file that people review, and that lines may move under.

A fingerprint is a hash of the path, the category and the code of the finding's lines, white space
aside, with a count for code that stands in the file more than once. No line number is in it.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from engine import durable
from mm1cli.errors import UsageError
from mm1cli.review.finding import Category, Finding
from mm1cli.review.locate import FileText

VERSION = 1
_MAX_BYTES = 32 << 20
_FIELDS = ("path", "category", "severity", "title", "code", "fingerprint")

Entry = dict[str, str]


def fingerprint(path: str, category: Category, text: FileText, first: int, last: int) -> str:
    parts = (path, category.value, *text.code(first, last))
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()
    return f"{digest[:32]}/{text.occurrence(first, last)}"


def load(path: Path) -> list[Entry]:
    """Raises UsageError, in one line, for a file that is no baseline."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise UsageError(f"--baseline {path}: over {_MAX_BYTES:,} bytes")
        data: Any = json.loads(content)
        entries = data["findings"]
        if data["version"] != VERSION or not isinstance(entries, list):
            raise UsageError(f"--baseline {path}: of another version; make it anew")
        return [{name: str(entry[name]) for name in _FIELDS} for entry in entries]
    except FileNotFoundError:
        raise UsageError(f"--baseline {path}: no such file; --update-baseline makes it") from None
    except OSError as error:
        raise UsageError(f"--baseline {path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(
            f"--baseline {path}: is no baseline; --update-baseline makes one"
        ) from None


def split(
    findings: Iterable[Finding], entries: Iterable[Entry]
) -> tuple[list[Finding], list[Finding]]:
    """New findings, and those the baseline knows."""
    known = {entry["fingerprint"] for entry in entries}
    new: list[Finding] = []
    hidden: list[Finding] = []
    for finding in findings:
        (hidden if finding.fingerprint in known else new).append(finding)
    return new, hidden


def updated(
    entries: Sequence[Entry], findings: Iterable[Finding], reviewed: frozenset[str]
) -> list[Entry]:
    """`findings`, and the entries of files that were not `reviewed` whole, sorted."""
    kept = {entry["fingerprint"]: entry for entry in entries if entry["path"] not in reviewed}
    now = {finding.fingerprint: _entry(finding) for finding in findings}
    return sorted(
        (kept | now).values(), key=lambda e: (e["path"], e["category"], e["code"], e["fingerprint"])
    )


def save(path: Path, entries: Sequence[Entry]) -> None:
    """Whole or not at all. Raises UsageError."""
    text = json.dumps({"version": VERSION, "findings": entries}, indent=2, ensure_ascii=True)
    try:
        durable.write(path, lambda part: part.write_text(text + "\n", "utf-8"), is_private=False)
    except OSError as error:
        raise UsageError(f"--baseline {path}: cannot be written ({error.strerror})") from None


def _entry(finding: Finding) -> Entry:
    return {
        "path": finding.path,
        "category": finding.category.value,
        "severity": finding.severity.value,
        "title": finding.title,
        "code": finding.quote,
        "fingerprint": finding.fingerprint,
    }
