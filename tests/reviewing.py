"""What tests of reviews are made of: a small repository, and findings as a model writes them."""

import subprocess
from pathlib import Path

UTIL = '''\
"""Small helpers."""


def clamp(value, low, high):
    """`value`, but at least `low` and at most `high`."""
    if value < low:
        return low
    return value


def mean(values):
    return sum(values) / len(values)
'''
MAIN = "from util import clamp, mean\n\n\nprint(mean([clamp(7, 0, 5), 3]))\n"


def raw(quote: str, first: int, last: int | None = None, **changes) -> dict:
    """A finding as a model writes it."""
    return {
        "quote": quote,
        "first_line": first,
        "last_line": last or first,
        "severity": "high",
        "category": "bugs",
        "title": "Division by zero",
        "explanation": "An empty list has no mean.",
        "fix": None,
    } | changes


def git(*arguments: object, cwd: Path | str = ".") -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always")
    ran = subprocess.run(
        ["git", *who, *map(str, arguments)], cwd=cwd, check=True, capture_output=True, text=True
    )
    return ran.stdout
