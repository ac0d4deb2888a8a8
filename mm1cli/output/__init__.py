"""The one way out: `make_sink` picks who the run speaks to."""

import os
import sys
from typing import Literal

from mm1cli.output.actions import guarded
from mm1cli.output.events import JsonLines, JsonObject
from mm1cli.output.sink import Sink
from mm1cli.output.terminal import Terminal
from mm1cli.output.text import Channel

Format = Literal["text", "json", "jsonl", "sarif", "github", "markdown"]


def make_sink(format: Format, quiet: bool) -> Sink:
    """The sink for `format`, on this process's stdout and stderr."""
    if format == "text":
        return Terminal.from_environment(quiet)
    if format in ("sarif", "github", "markdown"):
        from mm1cli.output.reports import Report

        return Report(format, quiet=quiet)
    stdout = Channel.from_environment(sys.stdout, os.environ)
    # A program reads stdout; beside it, words without a bar or colour.
    stderr = guarded(Channel(sys.stderr))
    aside = Terminal(stderr, stderr, quiet=quiet)
    return JsonObject(stdout, aside) if format == "json" else JsonLines(stdout, aside, quiet=quiet)
