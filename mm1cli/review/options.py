"""The options of a review: the command line's words, checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mm1cli.errors import UsageError
from mm1cli.ingest.path_filter import PathFilter
from mm1cli.review import baseline
from mm1cli.review.finding import Category, Severity

Choice = TypeVar("Choice", Severity, Category)


@dataclass(frozen=True, slots=True)
class ReviewFlags:
    """What the command line says beside paths and settings. `diff`: review what changed."""

    diff: bool = False
    category: Sequence[str] = ()
    severity: str | None = None
    max_findings: int | None = None
    paths: Sequence[str] = ()
    surprise: bool = False
    findings: bool = False
    fail_on: str | None = None
    baseline: Path | None = None
    update_baseline: bool = False


@dataclass(frozen=True, slots=True)
class ReviewOptions:
    """`ReviewFlags`, checked. `category` is all where none is `named`."""

    named: tuple[Category, ...]
    category: tuple[Category, ...]
    severity: Severity
    fail_on: Severity | None
    only: PathFilter | None
    known: list[baseline.Entry]


def checked(options: ReviewFlags) -> ReviewOptions:
    """Raises UsageError."""
    if options.update_baseline and options.baseline is None:
        raise UsageError("--update-baseline says to write --baseline FILE; name one")
    if options.max_findings is not None and options.max_findings < 0:
        raise UsageError(f"--max-findings is 0 or more, not {options.max_findings}")
    known: list[baseline.Entry] = []
    path = options.baseline
    if path is not None and (path.exists() or not options.update_baseline):
        known = baseline.load(path)
    only = None
    if options.paths:
        try:
            only = PathFilter.of(options.paths, ())
        except UsageError:
            raise UsageError("--paths takes patterns such as '*.py' or 'src/'") from None
    named = tuple(_one_of(Category, "--category", name) for name in dict.fromkeys(options.category))
    return ReviewOptions(
        named,
        named or tuple(Category),
        _one_of(Severity, "--severity", options.severity or Severity.LOW),
        _one_of(Severity, "--fail-on", options.fail_on) if options.fail_on else None,
        only,
        known,
    )


def _one_of(kind: type[Choice], flag: str, name: str) -> Choice:
    try:
        return kind(name)
    except ValueError:
        names = ", ".join(one.value for one in kind)
        raise UsageError(f"{flag} is one of {names}, not {name!r}") from None
