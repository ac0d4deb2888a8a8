"""Documents that are ready to be asked about: read now, or saved before."""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.api import (
    FAST,
    Engine,
    SavedContext,
    Selection,
    StoreError,
    fingerprint,
    saved_context,
)
from mm1cli.answering.answer import Answerer
from mm1cli.answering.context_cache import server_of
from mm1cli.answering.context_source import ContextSource, SavedContextSource
from mm1cli.answering.finder import Finder
from mm1cli.answering.json_schema import Schema
from mm1cli.answering.question import Question
from mm1cli.commands.backend import Backend, LocalBackend, backend
from mm1cli.commands.checks import require_documents
from mm1cli.commands.finding import finder
from mm1cli.commands.opening import begin, cached_context, ensure_model, selected_note
from mm1cli.commands.reading import Reading, Sources, counted, read, samples
from mm1cli.errors import InputError, UsageError
from mm1cli.grounding import quote_index
from mm1cli.grounding.quote_index import QuoteIndex
from mm1cli.ingest import corpus_file
from mm1cli.ingest.manifest import Manifest, ReadingPlan, build
from mm1cli.ingest.pack import Packed
from mm1cli.models import calibration
from mm1cli.models.default import AUTO
from mm1cli.settings import Settings
from mm1cli.sink import RunInfo, Sink
from mm1cli.tools.toolbox import NO_TOOLS, ToolOptions

if TYPE_CHECKING:
    from engine.api import ModelSource

_CONTEXT_FILES = ("manifest.json", "partial.json")  # one of them is in each


@dataclass(frozen=True, slots=True)
class Opened:
    """`model` is the name it was asked for by; `finder` is another model that searches for it."""

    engine: Engine
    packed: Packed
    manifest: Manifest
    settings: Settings
    model: str
    source: ContextSource | None
    quotable: QuoteIndex
    finder: Finder | None = None

    def answerer(
        self, sink: Sink, schema: Schema | None = None, tools: ToolOptions = NO_TOOLS
    ) -> Answerer:
        return Answerer(
            self.engine,
            self.packed,
            self.manifest.plan,
            self.settings,
            sink,
            self.source,
            self.quotable,
            schema=schema,
            tools=tools,
            attend=None if self.finder is None else self.finder.attended,
        )


def open_saved(command: str, folder: Path, settings: Settings, sink: Sink) -> Opened:
    """A context of `mm1 context build`; nothing is read again. One to select from may be asked by
    another model, which reads what it finds. Raises InputError, StoreError."""
    require_saved(folder)
    saved = saved_context(folder)
    content = saved.attachment(corpus_file.NAME)
    name = corpus_file.model_of(content)
    if saved.selection and _is_another(saved, name, settings, sink):
        return _found_by(name, command, saved, content, settings, sink)
    settings, name, model = _reopened(command, name, saved, settings, sink)
    if model.source is not None:
        _require_same_model(saved, name, model.source, settings)
    engine, packed, source = _restored(saved, content, model, settings, sink)
    counts = [len(ids) for ids in packed.token_ids]
    manifest = replace(build(packed.corpus, counts, max(sum(counts), 1)), is_saved=True)
    sink.manifest(manifest, show=False)
    sink.corpus(packed.corpus, counts)
    if saved.selection:
        sink.note(selected_note(manifest, engine, settings))
    quotable = QuoteIndex(packed.corpus, _saved_quotes(saved))
    return Opened(engine, packed, manifest, settings, name, source, quotable)


def _restored(
    saved: SavedContext, content: bytes, model: Backend, settings: Settings, sink: Sink
) -> tuple[Engine, Packed, ContextSource]:
    """What was saved, as the model that read it opens it."""
    packed = corpus_file.loads(content, saved.token_ids(), model.tokenizer).packed
    model = model.checked(samples(packed), settings, sink)
    selection = None if model.source is None else _selection(model.source, saved.selection)
    given = (settings, sink, saved.num_tokens)
    engine = model.open_engine(*given, is_mapped=True, selection=selection)

    def on_progress(done: int, total: int) -> None:
        sink.progress("prefill", done, total, "tokens")

    context = engine.open_context(saved.folder, on_progress=on_progress, on_note=sink.note)
    return engine, packed, SavedContextSource(context)


def _saved_quotes(saved: SavedContext) -> bytes | None:
    with suppress(StoreError):  # made by an mm1 that kept none, or damaged: they are made again
        return saved.attachment(quote_index.NAME)
    return None


def _is_another(saved: SavedContext, name: str, settings: Settings, sink: Sink) -> bool:
    """Whether the model that is asked for is not the one called `name`, which has read."""
    if settings.server is not None:
        return True
    if settings.model in {AUTO, name}:
        return False
    return fingerprint(ensure_model(settings, sink)) != saved.fingerprint.removesuffix(FAST)


def _found_by(
    name: str, command: str, saved: SavedContext, content: bytes, settings: Settings, sink: Sink
) -> Opened:
    """What the model called `name` has read, for another that answers from what that one finds."""
    settings = begin(command, settings, sink)
    own = replace(_as_saved(saved, settings), model=name, server=None)
    model = LocalBackend(ensure_model(own, sink))
    engine, packed, source = _restored(saved, content, model, own, sink)
    sink.note(
        f"{name} has read {packed.num_tokens:,} tokens; what a question attends to in them is read "
        f"and answered by {settings.model}"
    )
    found = Finder(engine, packed, own, sink, source)
    outcomes = packed.corpus.outcomes
    reading = counted(outcomes, [Question("?")], settings, sink, is_searched=True)
    return opened(reading, settings, sink, found_by=found, saved_quotes=_saved_quotes(saved))


def _as_saved(saved: SavedContext, settings: Settings) -> Settings:
    """What a context was made with is no choice any more, whatever mm1.toml says for new ones."""
    return replace(settings, chunk_tokens=saved.chunk_tokens, kv=saved.kv_dtype, fast=saved.is_fast)


def _reopened(
    command: str, name: str, saved: SavedContext, settings: Settings, sink: Sink
) -> tuple[Settings, str, Backend]:
    """The settings that a context was made with, the name of its model, and that model, here or
    behind --server."""
    if saved.is_on_server:
        if settings.server is None:
            raise UsageError(
                f"{saved.folder} is kept by a server ({name} at {server_of(saved.folder)}); ask "
                "with --server URL"
            )
        settings = begin(command, settings, sink)
        return settings, settings.model, backend(settings, sink)
    if settings.server is not None:
        raise UsageError(
            f"{saved.folder} holds what a model here has read; leave out "
            f"{settings.origin('server')}"
        )
    settings = _as_saved(saved, settings)
    sink.init(RunInfo(command, name))
    given = settings if settings.model != AUTO else replace(settings, model=name)
    return settings, name, LocalBackend(ensure_model(given, sink))


def _require_same_model(
    saved: SavedContext, name: str, model: "ModelSource", settings: Settings
) -> None:
    """Raises StoreError for another model than the one named `name`, which read the context."""
    made, asked = (one.removesuffix(FAST) for one in (saved.fingerprint, fingerprint(model)))
    if made == asked:
        return
    named = name if settings.model == AUTO else settings.model
    told = f"{saved.folder} was read by {name}, and what one model has read no other understands: "
    if named == name:
        told = f"{saved.folder} was read by another {name} than the one that is here now: "
    elsewise = "" if named == name else f"ask with -m {name}, or "
    raise StoreError(
        f"{told}{elsewise}build it again (mm1 context build -m {named}) "
        f"[{made[:8]}, not {asked[:8]}]"
    )


def _selection(model: "ModelSource", saved: str) -> Selection | None:
    """As the model was measured since, if documents are still read so; else as it was then."""
    if not saved:
        return None
    then, now = Selection.loads(saved), calibration.of(model)
    return now if now is not None and now.reading == then.reading else then


def open_paths(command: str, sources: Sources, settings: Settings, sink: Sink) -> Opened:
    """Documents, read and counted; their context is read when the first question comes."""
    settings = begin(command, settings, sink)
    reading = read(sources, [Question("?")], settings, sink)
    return opened(reading, settings, sink)


def opened(
    reading: Reading,
    settings: Settings,
    sink: Sink,
    *,
    is_table: bool = False,
    found_by: Finder | None = None,
    saved_quotes: bytes | None = None,
) -> Opened:
    """`is_table`: it is filled from one document at a time. `found_by` has read the documents."""
    manifest = reading.manifest
    sink.manifest(manifest, show=False)
    sink.corpus(reading.packed.corpus, [len(ids) for ids in reading.packed.token_ids])
    require_documents(manifest)
    most = manifest.largest[0].tokens if is_table else manifest.tokens
    num_tokens = max(settings.context_tokens or 0, min(most, manifest.budget_tokens))
    # Where contexts are kept, `CachedContext` knows later whether this one will be.
    is_mapped = not settings.no_cache
    given = (settings, sink, num_tokens)
    engine = reading.model.open_engine(*given, is_mapped=is_mapped, selection=reading.selection)
    if reading.selection is not None:
        sink.note(selected_note(manifest, engine, settings))
    if found_by is None and settings.finder is not None:
        found_by = _finder(settings.finder, reading, settings, sink)
    if manifest.plan is ReadingPlan.RETRIEVAL and not is_table and found_by is None:
        sink.note(_retrieval_note(manifest, settings.model))
    documents = reading.packed.corpus.documents
    source = None if settings.no_cache else cached_context(engine, documents, settings, sink)
    quotable = QuoteIndex(reading.packed.corpus, saved_quotes)
    given_back = (engine, reading.packed, manifest, settings, settings.model, source, quotable)
    return Opened(*given_back, finder=found_by)


def _finder(name: str, reading: Reading, settings: Settings, sink: Sink) -> Finder | None:
    """None where the model that answers reads everything itself."""
    if reading.selection is not None:
        raise UsageError(
            "--finder and --fit select both read what does not fit; leave one of them out"
        )
    if reading.manifest.plan is ReadingPlan.WHOLE:
        sink.note(f"--finder {name} has nothing to do: {settings.model} reads all of it")
        return None
    return finder(name, reading, settings, sink)


def _retrieval_note(manifest: Manifest, model: str) -> str:
    return (
        f"{manifest.tokens:,} tokens do not fit: {model} has room for {manifest.budget_tokens:,}. "
        "For each question the passages that fit it best are read (retrieval)"
    )


def is_saved(path: Path) -> bool:
    return path.is_dir() and any((path / name).exists() for name in _CONTEXT_FILES)


def require_saved(folder: Path) -> None:
    """Raises InputError for what was never a saved context, and says what does with it."""
    if not folder.exists():
        raise InputError(
            f"{folder}: no such context; `mm1 context build PATHS -o {folder}` makes it"
        )
    if not is_saved(folder):
        raise InputError(
            f"{folder} is no saved context; to ask about documents: mm1 analyze {folder} "
            '"QUESTION", to save them first: mm1 context build'
        )
