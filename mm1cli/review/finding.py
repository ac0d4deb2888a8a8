"""The noun `Finding`: one remark on lines of a file, whose code the program found there itself."""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mm1cli.code import RepoIndex
    from mm1cli.surprisal import LineSurprisal, SurprisalMap


class Severity(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return list(Severity).index(self)


class Category(StrEnum):
    """What a finding is about; the value is also what `--category` takes."""

    SECURITY = "security"
    BUGS = "bugs"
    API = "api"
    TESTS = "tests"
    PERFORMANCE = "performance"
    DOCS = "docs"


class Rejection(StrEnum):
    """Why something the model wrote is no finding. The value is what people read."""

    NOT_THERE = "quote not in the file"
    AMBIGUOUS = "quote in several places, none of them the lines named"
    OUTSIDE = "outside the change"
    REPEATED = "written twice"


@dataclass(frozen=True, slots=True)
class Region:
    """As SARIF has it: lines and columns count from 1; `end_column` is one behind the last."""

    first: int
    column: int
    last: int
    end_column: int


@dataclass(frozen=True, slots=True)
class Finding:
    """A checked finding. `quote` is a verbatim slice of `path`, from lines `first` to `last`.

    `fix` is what the model would put in place of the quote, None for nothing, and `patch` the same
    as a unified diff the program made, which applies to the file. `excerpt` are the lines around,
    by number. `fingerprint` does not change when the lines move; see `baseline`.
    """

    path: str
    first: int
    last: int
    severity: Severity
    category: Category
    title: str
    explanation: str
    quote: str
    region: Region
    fingerprint: str
    fix: str | None = None
    patch: str | None = None
    excerpt: tuple[tuple[int, str], ...] = ()

    @property
    def order(self) -> tuple[int, str, int, str]:
        """The worst first, then as they stand."""
        return (-self.severity.rank, self.path, self.first, self.fingerprint)

    def as_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "first_line": self.first,
            "last_line": self.last,
            "severity": self.severity,
            "category": self.category,
            "title": self.title,
            "explanation": self.explanation,
            "quote": self.quote,
            "patch": self.patch,
            "fingerprint": self.fingerprint,
        }


@dataclass(frozen=True, slots=True)
class ReviewCall:
    """What the model was asked about at once: lines of a file, with tokens read for them alone."""

    path: str
    first: int
    last: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Review:
    """`findings` are shown, `hidden` are known by the baseline, `below` under --severity or over
    --max-findings. `is_written` is False where the model was not asked. `surprising` are lines of
    what was reviewed, the most surprising first. `reports_facts` says the facts are for people to
    see, not only for programs. `not_reviewed` are (path, why). `added` are the lines of a change,
    by path."""

    facts: "RepoIndex | None"
    is_written: bool
    is_change: bool
    plan: str
    findings: tuple[Finding, ...] = ()
    hidden: tuple[Finding, ...] = ()
    below: tuple[Finding, ...] = ()
    rejected: Counter[Rejection] = field(default_factory=Counter)
    calls: tuple[ReviewCall, ...] = ()
    surprise: "SurprisalMap | None" = None
    surprising: tuple["LineSurprisal", ...] = ()
    not_reviewed: tuple[tuple[str, str], ...] = ()
    reports_facts: bool = False
    added: Mapping[str, frozenset[int]] = field(default_factory=dict)

    @property
    def counts(self) -> dict[Severity, int]:
        """Of the findings that are shown, the worst first."""
        found = Counter(finding.severity for finding in self.findings)
        return {severity: found[severity] for severity in reversed(Severity)}


def schema(categories: Sequence[Category], max_findings: int) -> dict[str, Any]:
    """What the model's answer follows. The quote comes first, so that what follows is about it."""
    line = {"type": "integer", "minimum": 1, "maximum": 10**7}
    item = {
        "type": "object",
        "properties": {
            "quote": {"type": "string", "minLength": 1, "maxLength": 600},
            "first_line": line,
            "last_line": line,
            "severity": {"enum": [severity.value for severity in Severity]},
            "category": {"enum": [category.value for category in categories]},
            "title": {"type": "string", "minLength": 1, "maxLength": 100},
            "explanation": {"type": "string", "minLength": 1, "maxLength": 600},
            "fix": {"anyOf": [{"type": "null"}, {"type": "string", "maxLength": 800}]},
        },
        "additionalProperties": False,
    }
    item["required"] = list(item["properties"])  # type: ignore[call-overload]
    return {
        "type": "object",
        "properties": {"findings": {"type": "array", "maxItems": max_findings, "items": item}},
        "required": ["findings"],
        "additionalProperties": False,
    }


def unified_diff(path: str, before: str, after: str) -> str:
    """As `git apply` takes it; "" where nothing changes."""
    lines = []
    for line in difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{path}", f"b/{path}"
    ):
        lines.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    return "".join(lines)
