"""`mm1 ask`: questions about a context that was built before; no document is read again."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from engine.api import StoreError, open_tokenizer, saved_attachment, saved_context, saved_tokens
from mm1cli.answering import json_schema
from mm1cli.answering.answer import Answerer
from mm1cli.answering.context_source import SavedContextSource
from mm1cli.answering.question import Question, check
from mm1cli.commands.checks import require_verified
from mm1cli.commands.opening import ensure_model, open_engine
from mm1cli.errors import InputError, UsageError
from mm1cli.grounding import quote_index
from mm1cli.ingest import corpus_file
from mm1cli.ingest.manifest import ReadingPlan, build
from mm1cli.models.default import AUTO
from mm1cli.settings import Settings
from mm1cli.sink import RunInfo, Sink

STDIN = "-"
CONTEXT_FILES = ("manifest.json", "partial.json")  # one of them is in each


def run(folder: Path, texts: Sequence[str], settings: Settings, sink: Sink) -> None:
    """Each question is answered from a fork, so their order never matters.

    "-" among `texts` stands for the lines of standard input, read as they come.
    """
    if not texts:
        raise UsageError("no question; add one, or - to read one a line from standard input")
    check([text for text in texts if text != STDIN])
    # A mistake in it is told before anything is opened.
    schema = json_schema.load(settings.schema) if settings.schema else None
    require_saved(folder)
    saved = saved_context(folder)
    token_ids = saved_tokens(folder)
    content = saved_attachment(folder, corpus_file.NAME)
    # What the context was made with is no choice any more, whatever mm1.toml says for new ones.
    settings = replace(settings, chunk_tokens=saved.chunk_tokens, kv=saved.kv_dtype)
    name = corpus_file.model_of(content)
    sink.init(RunInfo("ask", name))
    model = ensure_model(
        settings if settings.model != AUTO else replace(settings, model=name), sink
    )
    found = corpus_file.loads(content, token_ids, open_tokenizer(model))
    counts = [len(ids) for ids in found.packed.token_ids]
    manifest = build(found.packed.corpus, counts, max(sum(counts), 1))
    sink.manifest(manifest, show=False)
    sink.corpus(found.packed.corpus, counts)
    engine = open_engine(model, settings, sink, saved.num_tokens, is_mapped=True)
    source = SavedContextSource(engine.open_context(folder))
    saved_quotes: bytes | None = None
    with suppress(StoreError):  # made by an mm1 that kept none, or damaged: they are made again
        saved_quotes = saved_attachment(folder, quote_index.NAME)
    quotable = quote_index.QuoteIndex(found.packed.corpus, saved_quotes)
    answerer = Answerer(
        engine, found.packed, ReadingPlan.WHOLE, settings, sink, source, quotable, schema=schema
    )
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


def require_saved(folder: Path) -> None:
    """Raises InputError for what was never a saved context, and says what does with it."""
    if not folder.exists():
        raise InputError(
            f"{folder}: no such context; `mm1 context build PATHS -o {folder}` makes it"
        )
    if folder.is_file() or not any((folder / name).exists() for name in CONTEXT_FILES):
        raise InputError(
            f"{folder} is no saved context; to ask about documents: mm1 analyze {folder} "
            '"QUESTION", to save them first: mm1 context build'
        )


def _all(texts: Sequence[str], stdin: Iterable[str]) -> Iterator[str]:
    for text in texts:
        if text != STDIN:
            yield text
            continue
        for line in stdin:
            if line.strip():
                check([line])
                yield line.strip()
