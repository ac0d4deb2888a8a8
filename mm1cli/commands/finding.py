"""--finder: a model that reads all documents once, to find the passages for each question."""

from dataclasses import replace

from engine.api import MOST_TOKENS
from mm1cli.answering.finder import Finder
from mm1cli.commands.backend import LocalBackend
from mm1cli.commands.opening import cached_context, ensure_model
from mm1cli.commands.reading import Reading, measured_selection, packed_for
from mm1cli.errors import BudgetError
from mm1cli.settings import Settings
from mm1cli.sink import Sink


def finder(name: str, reading: Reading, settings: Settings, sink: Sink) -> Finder:
    """The documents of `reading`, which the model `name` reads when the first question comes.

    Raises ModelError where nobody measured how it selects, BudgetError for too much to read.
    """
    # What is set for the model that answers is not for this one.
    settings = replace(settings, model=name, server=None, context_tokens=None, fast=False, kv=None)
    model = LocalBackend(ensure_model(settings, sink))
    selection = measured_selection(model.source, name)
    packed = packed_for(model, reading.packed.corpus.outcomes, settings)
    if packed.num_tokens > MOST_TOKENS:
        raise BudgetError(
            f"--finder {name}: {packed.num_tokens:,} tokens are more than the {MOST_TOKENS:,} that "
            "one context holds; leave some out with --exclude, or leave out --finder"
        )
    engine = model.open_engine(
        settings, sink, packed.num_tokens, is_mapped=not settings.no_cache, selection=selection
    )
    documents = packed.corpus.documents
    source = None if settings.no_cache else cached_context(engine, documents, settings, sink)
    sink.note(
        f"{name} reads all {packed.num_tokens:,} tokens once; what a question attends to in them "
        "is read by the model that answers"
    )
    return Finder(engine, packed, settings, sink, source)
