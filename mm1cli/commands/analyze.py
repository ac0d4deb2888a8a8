"""`mm1 analyze`: read documents, answer questions about them."""

from collections.abc import Sequence

from mm1cli.commands.checks import require_everything_read, require_verified
from mm1cli.commands.opened import Opened, opened
from mm1cli.commands.opening import begin
from mm1cli.commands.questions import parse, without_question
from mm1cli.commands.reading import Sources, read
from mm1cli.errors import UsageError
from mm1cli.result import Answer
from mm1cli.settings import Settings
from mm1cli.sink import Sink
from mm1cli.tables.fill import TableFiller
from mm1cli.tables.templates import Template
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
    if asked.table is not None and settings.finder is not None:
        raise UsageError(
            f"{settings.origin('finder')} is for questions, and --template {asked.table.name} "
            "fills a table from each document; leave one of them out"
        )
    settings = begin("analyze", settings, sink)
    reading = read(
        sources,
        asked.questions,
        settings,
        sink,
        is_searched=asked.is_searched,
        is_selectable=asked.table is None,
    )
    documents = opened(reading, settings, sink, is_table=asked.table is not None)
    if (template := asked.table) is not None:
        answers = [_filled(template, asked.asks, documents, sink)]
    else:
        answers = documents.answerer(sink, asked.schema, tools).answers(asked.questions)
    if settings.strict:
        require_everything_read(documents.manifest)
    if settings.strict_citations:
        require_verified([one for answer in answers for one in answer.unverified])


def _filled(template: Template, asks: Sequence[str], documents: Opened, sink: Sink) -> Answer:
    if not documents.engine.capabilities.has_logprobs:
        raise UsageError(
            "--template fills its table by likelihoods, and this server tells none; leave out "
            "--template, or take llama-server, vLLM or SGLang"
        )
    sink.question(f"{template.name}: {template.description}", 0, 1)
    plan, source = documents.manifest.plan, documents.source
    given = (documents.engine, documents.packed, plan, documents.settings, sink, source)
    return TableFiller(*given).answer(template, asks)
