"""`mm1 analyze`: read documents, answer questions about them."""

from collections.abc import Sequence

from mm1cli.answering.answer import Answerer
from mm1cli.answering.context_source import CachedContext
from mm1cli.commands import templates as tabling
from mm1cli.commands.checks import (
    require_documents,
    require_everything_read,
    require_questions_with_text,
    require_verified,
)
from mm1cli.commands.opening import cache, open_engine
from mm1cli.commands.reading import Sources, read
from mm1cli.errors import UsageError
from mm1cli.ingest.manifest import ReadingPlan
from mm1cli.settings import Settings, replace_unset
from mm1cli.sink import RunInfo, Sink
from mm1cli.tables import templates


def run(
    sources: Sources,
    questions: Sequence[str],
    settings: Settings,
    sink: Sink,
    template_name: str | None = None,
) -> None:
    if template_name is not None:
        template = templates.load(template_name)
        if template.kind != "answer":
            tabling.run(template, sources, questions, settings, sink)
            return
        require_questions_with_text(questions)
        questions = template.questions(questions)
        if template.schema:
            settings = replace_unset(settings, schema=template.schema)
    if not questions:
        raise UsageError('no question; add --ask "...", or --dry-run to see what would be read')
    require_questions_with_text(questions)
    sink.init(RunInfo("analyze", settings.model))
    reading = read(sources, questions, settings, sink)
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
    reader = Answerer(engine, reading.packed, manifest.plan, settings, sink, source)
    unverified = [one for answer in reader.answers(questions) for one in answer.unverified]
    if settings.strict:
        require_everything_read(manifest)
    if settings.strict_citations:
        require_verified(unverified)
