"""`mm1 analyze`: read documents, answer questions about them."""

from collections.abc import Sequence

from mm1cli.answering.answer import Answerer
from mm1cli.answering.context_source import CachedContext
from mm1cli.commands import templates as tables
from mm1cli.commands.checks import (
    require_documents,
    require_everything_read,
    require_verified,
)
from mm1cli.commands.opening import cache, open_engine
from mm1cli.commands.questions import settle
from mm1cli.commands.reading import Sources, read
from mm1cli.errors import UsageError
from mm1cli.ingest.manifest import ReadingPlan
from mm1cli.settings import Settings
from mm1cli.sink import RunInfo, Sink


def run(
    sources: Sources,
    asks: Sequence[str],
    settings: Settings,
    sink: Sink,
    template_name: str | None = None,
) -> None:
    asked = settle(asks, template_name, settings)
    if asked.table is not None:
        tables.run(asked.table, sources, asked, settings, sink)
        return
    if not asked.questions:
        raise UsageError('no question; add --ask "...", or --dry-run to see what would be read')
    sink.init(RunInfo("analyze", settings.model))
    reading = read(sources, asked.questions, settings, sink)
    manifest = reading.manifest
    sink.manifest(manifest, show=False)
    sink.corpus(reading.packed.corpus, [len(ids) for ids in reading.packed.token_ids])
    require_documents(manifest)
    limit = settings.context_tokens or 0
    num_tokens = max(limit, min(manifest.tokens, manifest.budget_tokens))
    # Where contexts are kept, `CachedContext` knows later whether this one will be.
    is_mapped = not settings.no_cache
    engine = open_engine(reading.model, settings, sink, num_tokens, is_mapped=is_mapped)
    if manifest.plan is ReadingPlan.RETRIEVAL:
        sink.note(
            f"{manifest.tokens:,} tokens do not fit the {manifest.budget_tokens:,} that "
            f"{settings.model} leaves for documents: reading by retrieval, the passages that fit "
            "each question best"
        )
    source = None if settings.no_cache else CachedContext(engine, cache(settings), sink)
    answerer = Answerer(
        engine, reading.packed, manifest.plan, settings, sink, source, schema=asked.schema
    )
    unverified = [one for answer in answerer.answers(asked.questions) for one in answer.unverified]
    if settings.strict:
        require_everything_read(manifest)
    if settings.strict_citations:
        require_verified(unverified)
