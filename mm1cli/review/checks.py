"""From what a model wrote to a `Finding`, or to the reason why it is none."""

import json
from collections.abc import Iterator
from typing import Any

from mm1cli.review import baseline
from mm1cli.review.changes import Change
from mm1cli.review.finding import Category, Finding, Rejection, Severity, unified_diff
from mm1cli.review.locate import FileText, Match

EXCERPT_AROUND = 2
_MOST_EXCERPT_LINES = 16


def written(text: str) -> list[dict[str, Any]]:
    """The findings in an answer, which follows `finding.schema` or is empty."""
    return list(json.loads(text)["findings"]) if text else []


def checked(
    raw: dict[str, Any], path: str, text: FileText, change: Change | None
) -> Finding | Rejection:
    """The model names lines; where its quote stands is what counts."""
    match = text.find(raw["quote"], raw["first_line"], raw["last_line"])
    if isinstance(match, Rejection):
        return match
    region = match.region
    if change is not None and not change.touches(path, region.first, region.last):
        return Rejection.OUTSIDE
    category = Category(raw["category"])
    fix, patch = _fixed(raw["fix"], path, text, match)
    return Finding(
        path=path,
        first=region.first,
        last=region.last,
        severity=Severity(raw["severity"]),
        category=category,
        title=_one_line(raw["title"]) or f"a remark on {category}",
        explanation=_one_line(raw["explanation"]),
        quote=text.text[match.start : match.end],
        region=region,
        fingerprint=baseline.fingerprint(path, category, text, region.first, region.last),
        fix=fix,
        patch=patch,
        excerpt=tuple(_excerpt(text, region.first, region.last)),
    )


def _fixed(
    fix: str | None, path: str, text: FileText, match: Match
) -> tuple[str | None, str | None]:
    if fix is None:
        return None, None
    after = text.text[: match.start] + fix + text.text[match.end :]
    patch = unified_diff(path, text.text, after)
    return (fix, patch) if patch else (None, None)


def _excerpt(text: FileText, first: int, last: int) -> Iterator[tuple[int, str]]:
    last = min(last, first + _MOST_EXCERPT_LINES - 1)
    for number in range(max(first - EXCERPT_AROUND, 1), last + EXCERPT_AROUND + 1):
        is_end = number == len(text.lines) and not text.lines[-1]
        if number <= len(text.lines) and not is_end:
            yield number, text.lines[number - 1]


def _one_line(text: str) -> str:
    return " ".join(text.split())
