"""The sink of the formats other programs read of a review: SARIF, GitHub's annotations, Markdown.

stdout holds the report and nothing else; notes, progress and errors go to stderr in words.
"""

import os
import sys

from mm1cli.output.sink import RunInfo
from mm1cli.output.terminal import Terminal
from mm1cli.output.text import Channel, Style
from mm1cli.review.finding import Review


class ActionsChannel(Channel):
    """In a GitHub workflow the runner obeys lines with `::` at their start or `##[` anywhere, on
    stdout and stderr alike. What is written here is never one."""

    def write(self, text: str, style: Style = Style.PLAIN) -> None:
        super().write(harmless(text), style)


def harmless(text: str) -> str:
    """`text` that GitHub's runner takes for words."""
    text = text.replace("##[", "# #[")
    return "\n".join(
        f". {line}" if line.lstrip().startswith("::") else line for line in text.split("\n")
    )


def guarded(channel: Channel) -> Channel:
    """`channel`, or in a workflow of GitHub one that cannot command its runner."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return channel
    return ActionsChannel(channel.stream, channel.is_terminal, channel.color, channel.width)


class Report(Terminal):
    def __init__(self, format: str, *, quiet: bool) -> None:
        stdout = Channel.from_environment(sys.stdout, os.environ)
        kind = ActionsChannel if format == "github" else Channel
        super().__init__(stdout, kind(sys.stderr), quiet=quiet)
        self._format = format
        self._run = RunInfo("review", "")

    def init(self, run: RunInfo) -> None:
        super().init(run)
        self._run = run

    def review(self, review: Review) -> None:
        self._progress.stop()
        if self._format == "sarif":
            from mm1cli.output.sarif import sarif_text

            text = sarif_text(review, self._run.model)
        elif self._format == "github":
            from mm1cli.output.github import annotations

            text = annotations(review)
        else:
            from mm1cli.output.markdown import markdown

            text = markdown(review)
        self._stdout.write(text)
