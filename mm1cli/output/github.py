"""Findings as commands of GitHub's workflow runner, which shows them beside the lines of a change.

The runner reads `::error file=F,line=N,endLine=M,title=T::TEXT`, one a line; in values `%`, CR and
LF are escaped, in properties `:` and `,` as well (docs.github.com, workflow commands).
"""

import unicodedata

from mm1cli.output.review import totals
from mm1cli.review.finding import Finding, Review, Severity

_COMMANDS = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "notice",
}


def annotations(review: Review) -> str:
    """One line a finding, the worst first, then one with the sums."""
    lines = [_annotation(finding) for finding in review.findings]
    sums = "; ".join(totals(review)) or "nothing was reviewed"
    if not review.is_written:
        sums = f"no findings were written: the model is too small; {sums}"
    lines.append(f"::notice title=mm1 review::{_value(sums)}")
    return "".join(f"{line}\n" for line in lines)


def _annotation(finding: Finding) -> str:
    properties = {
        "file": finding.path,
        "line": str(finding.first),
        "endLine": str(finding.last),
        "title": f"{finding.severity} ({finding.category}): {finding.title}",
    }
    listed = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    text = finding.explanation + (f"\n\nSuggested:\n{finding.patch}" if finding.patch else "")
    return f"::{_COMMANDS[finding.severity]} {listed}::{_value(text)}"


def _value(text: str) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    text = text.replace("##[", "# #[")  # the older form of a command, anywhere in a line
    return "".join(_visible(character) for character in text)


def _property(text: str) -> str:
    return _value(text).replace(":", "%3A").replace(",", "%2C")


def _visible(character: str) -> str:
    """Line separators that are not LF, which some readers split at, are spelled out."""
    if character in "\x85\u2028\u2029" or unicodedata.category(character) == "Cc":
        return "\t" if character == "\t" else f"\\x{ord(character):02x}"
    return character
