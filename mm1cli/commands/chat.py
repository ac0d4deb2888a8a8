"""`mm1 chat`: questions in turn, about documents, a saved context, or to the model alone."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engine.api import tool_call_markers
from mm1cli.answering import form
from mm1cli.answering.generation import thinking_tokens
from mm1cli.chat.answers import Alone, Documents, Partner
from mm1cli.chat.repl import Recorder, Repl
from mm1cli.commands.backend import Backend, backend
from mm1cli.commands.opened import is_saved, open_paths, open_saved
from mm1cli.commands.opening import begin
from mm1cli.commands.reading import Sources
from mm1cli.errors import UsageError
from mm1cli.models.describe import describe
from mm1cli.output.text import Channel
from mm1cli.settings import Settings, replace_unset
from mm1cli.sink import Sink
from mm1cli.tools.toolbox import NAMES, ToolOptions

_ASKED_TOKENS = 1024
_SAMPLING = {  # from the cards of models
    "minimax": {"temperature": 1.0, "top_p": 0.95},
    "qwen3": {"temperature": 0.6, "top_p": 0.95},
}


def run(sources: Sources | None, settings: Settings, sink: Sink, tools: ToolOptions) -> None:
    """`sources` None: no documents. One path that is a saved context is opened as one. `tools`
    Named none: all of them, for a model that knows how to call one."""
    recorder = Recorder(sink)

    def reopened(name: str) -> Partner:
        return _partner(sources, replace(settings, model=name), recorder, tools)

    screen = Channel.from_environment(sys.stdout, os.environ)
    partner = _partner(sources, settings, recorder, tools)
    Repl(partner, reopened, recorder, sys.stdin, screen).run()


def _partner(
    sources: Sources | None, settings: Settings, sink: Sink, tools: ToolOptions
) -> Partner:
    if sources is None:
        settings = begin("chat", settings, sink)
        model = backend(settings, sink)
        if model.source is not None:
            settings = as_its_card_says(settings, describe(model.source.path).family)
        num_tokens = _most_tokens(model, settings, sink)
        return Alone(model.open_engine(settings, sink, num_tokens), settings, sink)
    if (folder := _saved(sources.paths)) is not None:
        opened = open_saved("chat", folder, settings, sink)
    else:
        opened = open_paths("chat", sources, settings, sink)
    if tools.names is None:
        knows = tool_call_markers(opened.engine.tokenizer) is not None
        leads = form.sentences_lead(opened.settings, opened.engine.fingerprint)
        tools = replace(tools, names=NAMES if knows and leads else ())
    return Documents(opened.answerer(sink, tools=tools), opened.packed.corpus)


def _most_tokens(model: Backend, settings: Settings, sink: Sink) -> int:
    """Of a question, what is thought of it and the answer: room for them is made beforehand."""
    limit = settings.context_tokens or model.max_positions
    thinking = thinking_tokens(model.tokenizer, settings)
    needed = _ASKED_TOKENS + thinking + settings.max_tokens
    if thinking and needed > limit:
        sink.note(
            f"--max-thinking {settings.max_thinking:,}: {settings.model} has room for {limit:,} "
            "tokens in all, question and answer included; it thinks until those are full"
        )
    return min(needed, limit)


def as_its_card_says(settings: Settings, family: str) -> Settings:
    """The sampling that the authors of a model recommend, where the user has said nothing: greedy
    decoding of long reasoning goes round in circles. Answers about documents stay greedy."""
    for known, sampling in _SAMPLING.items():
        if family.startswith(known):
            return replace_unset(settings, **sampling)
    return settings


def _saved(paths: Sequence[str]) -> Path | None:
    saved = [Path(path) for path in paths if is_saved(Path(path))]
    if saved and len(paths) > 1:
        raise UsageError(f"{saved[0]} is a saved context; it goes alone, without other paths")
    return saved[0] if saved else None
