"""A review as SARIF 2.1.0 (docs.oasis-open.org/sarif), which code scanning services read."""

import json
from typing import Any
from urllib.parse import quote

from mm1cli.about import version
from mm1cli.output.events import escaped, plain
from mm1cli.output.review import totals
from mm1cli.review.finding import Category, Finding, Region, Review, Severity

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_FINGERPRINT = "mm1/v1"
_LEVELS = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
}
# As GitHub sorts findings about security into critical, high, medium and low.
_SCORES = {
    Severity.CRITICAL: "9.5",
    Severity.HIGH: "8.0",
    Severity.MEDIUM: "5.0",
    Severity.LOW: "2.0",
}
_TITLES = {
    Category.SECURITY: "Something an attacker could use",
    Category.BUGS: "Code that does not do what it should",
    Category.API: "An interface that misleads or breaks its users",
    Category.TESTS: "Code whose tests are missing or prove nothing",
    Category.PERFORMANCE: "Work that need not be done",
    Category.DOCS: "Words that do not fit the code",
}


def sarif_text(review: Review, model: str) -> str:
    text = json.dumps(plain(sarif(review, model)), indent=2, ensure_ascii=True)
    return escaped(text) + "\n"


def sarif(review: Review, model: str) -> dict[str, Any]:
    """One run; findings that a baseline hides are in it, as suppressed."""
    driver = {
        "name": "mm1",
        "version": version(),
        "rules": [_rule(category) for category in Category],
        "properties": {"model": model},
    }
    notes = [*totals(review)]
    if not review.is_written:
        notes.append("no findings were written: the model is too small for it")
    invocation = {
        "executionSuccessful": True,
        "toolExecutionNotifications": [
            {"level": "note", "message": {"text": note}} for note in notes
        ],
    }
    known = [
        _result(finding) | {"suppressions": [{"kind": "external"}]} for finding in review.hidden
    ]
    run: dict[str, Any] = {
        "tool": {"driver": driver},
        "invocations": [invocation],
        "columnKind": "unicodeCodePoints",
        "results": [*(_result(finding) for finding in review.findings), *known],
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(category: Category) -> dict[str, Any]:
    tags = ["security"] if category is Category.SECURITY else ["maintainability"]
    return {
        "id": category.value,
        "name": category.value.title(),
        "shortDescription": {"text": _TITLES[category]},
        "properties": {"tags": tags},
    }


def _result(finding: Finding) -> dict[str, Any]:
    place = {"uri": _uri(finding.path)}
    properties: dict[str, Any] = {"severity": finding.severity.value}
    if finding.category is Category.SECURITY:
        properties["security-severity"] = _SCORES[finding.severity]
    region = _region(finding.region)
    result: dict[str, Any] = {
        "ruleId": finding.category.value,
        "ruleIndex": list(Category).index(finding.category),
        "level": _LEVELS[finding.severity],
        # Text in brackets would be read as a link, see 3.11.6.
        "message": {"text": _message(f"{finding.title}\n{finding.explanation}")},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": place,
                    "region": region | {"snippet": {"text": finding.quote}},
                }
            }
        ],
        "partialFingerprints": {_FINGERPRINT: finding.fingerprint},
        "properties": properties,
    }
    if finding.fix is not None:
        replacement = {"deletedRegion": region, "insertedContent": {"text": finding.fix}}
        change = {"artifactLocation": place, "replacements": [replacement]}
        result["fixes"] = [{"artifactChanges": [change]}]
    return result


def _message(text: str) -> str:
    for character in "\\[]":
        text = text.replace(character, f"\\{character}")
    return text.replace("{", "{{").replace("}", "}}")


def _region(region: Region) -> dict[str, Any]:
    return {
        "startLine": region.first,
        "startColumn": region.column,
        "endLine": region.last,
        "endColumn": region.end_column,
    }


def _uri(path: str) -> str:
    """A relative URI; a colon in its first part would be a scheme."""
    encoded = quote(path, safe="/", errors="surrogateescape")
    return encoded if path.startswith("/") or not encoded.startswith("//") else f".{encoded}"
