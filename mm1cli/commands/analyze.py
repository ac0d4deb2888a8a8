"""`mm1 analyze`: read documents, answer questions about them."""

from collections.abc import Sequence

from mm1cli.answering.answer import Answerer
from mm1cli.commands.checks import (
    require_documents,
    require_everything_read,
    require_verified,
)
from mm1cli.commands.opened import retrieval_note
from mm1cli.commands.opening import begin, cached_context, selected_note
from mm1cli.commands.questions import parse, without_question
from mm1cli.commands.reading import Sources, read
from mm1cli.errors import UsageError
from mm1cli.ingest.manifest import ReadingPlan
from mm1cli.settings import Settings
from mm1cli.sink import Sink
from mm1cli.tables.fill import TableFiller
from mm1cli.tools.toolbox import NO_TOOLS, ToolOptions


def run(
    sources: Sources,
    asks: Sequence[str],
    settings: Settings,
    sink: Sink,
    template_name: str | None = None,
    tools: ToolOptions = NO_TOOLS,
) -> None:
    asked = parse(asks, template_name, settings)
    if not asked.questions:
        raise without_question(sources.paths)
    settings = begin("analyze", settings, sink)
    reading = read(
        sources,
        asked.questions,
        settings,
        sink,
        is_searched=asked.is_searched,
        is_selectable=asked.table is None,
    )
    manifest = reading.manifest
    sink.manifest(manifest, show=False)
    sink.corpus(reading.packed.corpus, [len(ids) for ids in reading.packed.token_ids])
    require_documents(manifest)
    # A table is filled from one document at a time.
    most = manifest.largest[0].tokens if asked.table is not None else manifest.tokens
    num_tokens = max(settings.context_tokens or 0, min(most, manifest.budget_tokens))
    # Where contexts are kept, `CachedContext` knows later whether this one will be.
    is_mapped = not settings.no_cache
    chosen = reading.selection
    engine = reading.model.open_engine(
        settings, sink, num_tokens, is_mapped=is_mapped, selection=chosen
    )
    if asked.table is not None and not engine.capabilities.has_logprobs:
        raise UsageError(
            "--template fills its table by likelihoods, and this server tells none; leave out "
            "--template, or take llama-server, vLLM or SGLang"
        )
    if chosen is not None:
        sink.note(selected_note(manifest, engine, settings))
    if manifest.plan is ReadingPlan.RETRIEVAL and asked.table is None:
        sink.note(retrieval_note(manifest, settings.model))
    documents = reading.packed.corpus.documents
    source = None if settings.no_cache else cached_context(engine, documents, settings, sink)
    given = (engine, reading.packed, manifest.plan, settings, sink, source)
    if (template := asked.table) is not None:
        sink.question(f"{template.name}: {template.description}", 0, 1)
        answers = [TableFiller(*given).answer(template, asked.asks)]
    else:
        answers = Answerer(*given, schema=asked.schema, tools=tools).answers(asked.questions)
    if settings.strict:
        require_everything_read(manifest)
    if settings.strict_citations:
        require_verified([one for answer in answers for one in answer.unverified])
