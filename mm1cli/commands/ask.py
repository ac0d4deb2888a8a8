"""`mm1 ask`: questions about a context that was built before; no document is read again."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from engine.engine import StoreError, Tokenizer, saved_attachment, saved_context, saved_tokens
from mm1cli import library, schema
from mm1cli.answer import Reader, in_quotes
from mm1cli.commands.checks import require_questions_with_text
from mm1cli.commands.context import open_engine
from mm1cli.errors import CitationError, UsageError
from mm1cli.ingest import kept
from mm1cli.ingest.manifest import build
from mm1cli.output.sink import RunInfo, Sink
from mm1cli.preread import Opened
from mm1cli.result import ReadingPlan
from mm1cli.settings import Settings, replace_unset

STDIN = "-"


def run(folder: Path, questions: Sequence[str], settings: Settings, sink: Sink) -> None:
    """Each question is answered from a fork, so their order never matters.

    "-" among `questions` stands for the lines of standard input, read as they come.
    """
    if not questions:
        raise UsageError("no question; add one, or - to read one a line from standard input")
    require_questions_with_text([q for q in questions if q != STDIN])
    if settings.schema:
        schema.load(settings.schema)  # a mistake in it is told before anything is opened
    saved = saved_context(folder)
    token_ids = saved_tokens(folder)
    content = saved_attachment(folder, kept.NAME)
    settings = replace_unset(settings, chunk_tokens=saved.chunk_tokens)
    model = library.ensure(
        kept.model_of(content) if settings.origin("model") == "default" else settings.model,
        lambda stage, done, total: sink.progress(stage, done, total, "bytes"),
    )
    found = kept.loads(content, token_ids, Tokenizer(model))
    sink.init(RunInfo("ask", found.model))
    counts = [len(ids) for ids in found.packed.token_ids]
    manifest = build(found.packed.corpus, counts, max(sum(counts), 1))
    sink.manifest(manifest, show=False)
    engine = open_engine(model, settings, sink)
    context = engine.open_context(folder)
    if len(context) != found.head_tokens + len(found.packed.ids()):
        raise StoreError(f"{folder}: the documents beside the context are others")
    source = Opened(context)
    reader = Reader(engine, found.packed, ReadingPlan.WHOLE, settings, sink, source)
    unverified: list[str] = []
    count = len(questions) if STDIN not in questions else 0
    for index, question in enumerate(_all(questions, sys.stdin)):
        sink.question(question, index, max(count, index + 1))
        unverified += reader.answer(question).unverified
    if settings.strict_citations and unverified:
        raise CitationError(f"--strict-citations: not in the documents: {in_quotes(unverified)}")


def _all(questions: Sequence[str], stdin: Iterable[str]) -> Iterator[str]:
    for question in questions:
        if question != STDIN:
            yield question
            continue
        for line in stdin:
            if line.strip():
                require_questions_with_text([line])
                yield line.strip()
