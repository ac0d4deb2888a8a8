"""`mm1 ask`: questions about a context that was built before; no document is read again."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mm1cli.answering import json_schema
from mm1cli.answering.question import Question, check
from mm1cli.commands.checks import require_verified
from mm1cli.commands.opened import open_saved
from mm1cli.errors import UsageError
from mm1cli.settings import Settings
from mm1cli.sink import Sink
from mm1cli.tools.toolbox import NO_TOOLS, ToolOptions

STDIN = "-"


def run(
    folder: Path,
    texts: Sequence[str],
    settings: Settings,
    sink: Sink,
    tools: ToolOptions = NO_TOOLS,
) -> None:
    """Each question is answered from a fork, so their order never matters.

    "-" among `texts` stands for the lines of standard input, read as they come.
    """
    if not texts:
        raise UsageError("no question; add one, or - to read one a line from standard input")
    check([text for text in texts if text != STDIN])
    # A mistake in it is told before anything is opened.
    schema = json_schema.load(settings.schema) if settings.schema else None
    answerer = open_saved("ask", folder, settings, sink).answerer(sink, schema, tools)
    unverified: list[str] = []
    if STDIN not in texts:
        questions = [Question(text, schema) for text in texts]
        unverified += [one for answer in answerer.answers(questions) for one in answer.unverified]
    else:  # each is answered before the next line is there
        for index, text in enumerate(_all(texts, sys.stdin)):
            sink.question(text, index, index + 1)
            unverified += answerer.answer(Question(text, schema)).unverified
    if settings.strict_citations:
        require_verified(unverified)


def _all(texts: Sequence[str], stdin: Iterable[str]) -> Iterator[str]:
    for text in texts:
        if text != STDIN:
            yield text
            continue
        for line in stdin:
            if line.strip():
                check([line])
                yield line.strip()
