"""`mm1 templates` and `mm1 analyze --template`."""

import json
from typing import TextIO

from mm1cli.answering.context_source import CachedContext
from mm1cli.commands.checks import (
    require_documents,
    require_everything_read,
    require_verified,
)
from mm1cli.commands.opening import cache, open_engine
from mm1cli.commands.questions import Asked
from mm1cli.commands.reading import Sources, read
from mm1cli.settings import Settings
from mm1cli.sink import RunInfo, Sink
from mm1cli.tables import templates
from mm1cli.tables.fill import TableFiller
from mm1cli.tables.templates import Template


def show_list(out: TextIO, *, as_json: bool) -> None:
    found = templates.listed()
    if as_json:
        names = ("name", "description", "kind", "origin")
        json.dump([{name: getattr(one, name) for name in names} for one in found], out)
        out.write("\n")
        return
    width = max(len(one.name) for one in found)
    for one in found:
        origin = "" if one.origin == templates.BUILT_IN else f" ({one.origin})"
        out.write(f"{one.name:{width}}  {one.description}{origin}\n")
    out.write(f"\nyour own: {templates.folder()}/NAME.md, or --template ./NAME.md\n")


def show(name: str, out: TextIO) -> None:
    """The file as it is, so that it can be redirected and changed."""
    out.write(templates.load(name).content)


def run(template: Template, sources: Sources, asked: Asked, settings: Settings, sink: Sink) -> None:
    """A template whose answer is a table."""
    sink.init(RunInfo("analyze", settings.model))
    reading = read(sources, asked.questions, settings, sink, is_searched=asked.is_searched)
    manifest = reading.manifest
    sink.manifest(manifest, show=False)
    sink.corpus(reading.packed.corpus, [len(ids) for ids in reading.packed.token_ids])
    require_documents(manifest)
    num_tokens = min(manifest.largest[0].tokens, manifest.budget_tokens)
    num_tokens = max(settings.context_tokens or 0, num_tokens)
    is_mapped = not settings.no_cache
    engine = open_engine(reading.model, settings, sink, num_tokens, is_mapped=is_mapped)
    source = None if settings.no_cache else CachedContext(engine, cache(settings), sink)
    filler = TableFiller(engine, reading.packed, manifest.plan, settings, sink, source)
    sink.question(f"{template.name}: {template.description}", 0, 1)
    answer = filler.answer(template, asked.asks)
    if settings.strict:
        require_everything_read(manifest)
    if settings.strict_citations:
        require_verified(answer.unverified)
