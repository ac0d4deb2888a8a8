"""The sink of the formats other programs read of a review: SARIF, GitHub's annotations, Markdown.

stdout holds the report and nothing else; notes, progress and errors go to stderr in words.
"""

import os
import sys

from mm1cli.output.github_escape import ActionsChannel, guarded
from mm1cli.output.terminal import Terminal
from mm1cli.output.text import Channel
from mm1cli.review.finding import Review


class ReviewSink(Terminal):
    def __init__(self, format: str, *, quiet: bool) -> None:
        stdout = Channel.from_environment(sys.stdout, os.environ)
        aside = ActionsChannel(sys.stderr) if format == "github" else guarded(Channel(sys.stderr))
        super().__init__(stdout, aside, quiet=quiet)
        self._format = format

    def _review(self, review: Review) -> None:
        self._progress.stop()
        if self._format == "sarif":
            from mm1cli.output.sarif import sarif_text

            text = sarif_text(review, self._model)
        elif self._format == "github":
            from mm1cli.output.github import annotations

            text = annotations(review)
        else:
            from mm1cli.output.markdown import markdown

            text = markdown(review)
        self._stdout.write(text)
