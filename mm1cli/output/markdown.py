"""A review as Markdown, for a comment on a change or a file."""

from itertools import groupby

from mm1cli.output.code_view import share_words
from mm1cli.output.review import totals
from mm1cli.output.text import safe, safe_line
from mm1cli.review.finding import Finding, Review

_MEANING = "\\`*_{}[]<>()#+-.!|~&@:$"  # @ and : so that nobody is called and nothing is linked


def markdown(review: Review) -> str:
    parts = ["# Review\n\n"]
    parts += [f"{plain(sentence)}\n\n" for sentence in totals(review)]
    if not review.is_written:
        parts.append("No findings were written: the model is too small for it.\n\n")
    ordered = sorted(review.findings, key=lambda f: (f.path, f.first, f.order))
    for path, findings in groupby(ordered, key=lambda f: f.path):
        parts.append(f"## {plain(path)}\n\n")
        parts += [_finding(finding) for finding in findings]
    if review.surprising:
        parts.append("## Improbable lines\n\n| Lines | Place | Code |\n|---|---|---|\n")
        for line in review.surprising:
            place = plain(f"{line.path}:{line.line}")
            parts.append(
                f"| {share_words(line.rank_share)} | {place} | {plain(line.text.strip()[:200])} |\n"
            )
    return "".join(parts)


def _finding(finding: Finding) -> str:
    first, last = finding.first, finding.last
    place = f"line {first}" if first == last else f"lines {first}-{last}"
    code = "\n".join(safe_line(text.expandtabs(4)) for _, text in finding.excerpt)
    head = f"{finding.severity}, {finding.category}, {place}"
    text = f"**{plain(finding.title)}** ({head})\n\n{plain(finding.explanation)}\n\n{fenced(code)}"
    if finding.patch:
        text += fenced(safe(finding.patch.rstrip("\n")), "diff")
    return text + "\n"


def plain(text: str) -> str:
    """`text` on one line, in which nothing means anything to Markdown or HTML."""
    return "".join(f"\\{c}" if c in _MEANING else c for c in safe_line(text))


def fenced(text: str, kind: str = "") -> str:
    """In a fence longer than any in it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{kind}\n{text}\n{fence}\n"
