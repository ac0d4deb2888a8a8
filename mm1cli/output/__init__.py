"""The one way out: `make_sink` picks who the run speaks to."""

import os
import sys
from typing import Literal

from mm1cli.output.events import JsonLines, JsonObject, write_line
from mm1cli.output.github_escape import guarded
from mm1cli.output.terminal import Terminal
from mm1cli.output.text import Channel
from mm1cli.sink import SCHEMA_VERSION, Sink

Format = Literal["text", "json", "jsonl", "sarif", "github", "markdown"]


def make_sink(format: Format, quiet: bool, answer_only: bool = False) -> Sink:
    """The sink for `format`, on this process's stdout and stderr."""
    if format == "text":
        return Terminal.from_environment(quiet, answer_only)
    if format in ("sarif", "github", "markdown"):
        from mm1cli.output.review_sinks import ReviewSink

        return ReviewSink(format, quiet=quiet)
    stdout = Channel.from_environment(sys.stdout, os.environ)
    # A program reads stdout; beside it, words without a bar or colour.
    stderr = guarded(Channel(sys.stderr))
    aside = Terminal(stderr, stderr, quiet=quiet)
    return JsonObject(stdout, aside) if format == "json" else JsonLines(stdout, aside, quiet=quiet)


def write_error(message: str, exit_code: int) -> None:
    """The object that --json of any command ends in where there is nothing else to tell."""
    told = {"message": message, "exit_code": int(exit_code)}
    stdout = Channel.from_environment(sys.stdout, os.environ)
    write_line(stdout, {"schema_version": SCHEMA_VERSION, "error": told})
