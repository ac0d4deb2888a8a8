"""What commands open: the model's folder, the engine, the caches."""

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine import api
from engine.api import FAST, Engine, Selection
from mm1cli.answering.context_cache import GB, ContextCache
from mm1cli.answering.context_source import CachedContext, ContextSource, Uncached
from mm1cli.errors import BudgetError
from mm1cli.ingest.corpus import Document
from mm1cli.ingest.manifest import Manifest
from mm1cli.models import library
from mm1cli.models.default import AUTO, choose
from mm1cli.settings import Settings
from mm1cli.sink import RunInfo, Sink

if TYPE_CHECKING:
    from engine.api import ModelSource

_FAST = "--fast: matmuls take activations in eight bits; numbers differ a little from those without"
_NOT_FAST = "--fast changes nothing here: it is for models that run from a GGUF file's own blocks"
LEAST_DATA_BYTES = 500 * 10**6  # a tiny model, and torch


def begin(command: str, settings: Settings, sink: Sink) -> Settings:
    """Tells `sink` what begins, and, where no model was named, which is taken and why.

    The settings that are returned have its name.
    """
    require_data_limit()
    if settings.server is not None:
        from mm1cli.commands.backend import probed

        info = probed(settings)
        settings = replace(settings, model=info.model, served=info)
        sink.init(RunInfo(command, settings.model))
        return settings
    choice = choose(settings.device) if settings.model == AUTO else None
    settings = settings if choice is None else replace(settings, model=choice.name)
    sink.init(RunInfo(command, settings.model))
    if choice is not None:
        sink.note(f"model: {choice.name} ({choice.why})")
    return settings


def require_data_limit() -> None:
    """Raises BudgetError where `ulimit -d` is so low that libraries crash as they load."""
    if sys.platform == "win32":
        return
    import resource

    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    if limit != resource.RLIM_INFINITY and limit < LEAST_DATA_BYTES:
        raise BudgetError(
            f"ulimit -d allows {limit / 1e6:,.0f} MB; loading a model takes "
            f"{LEAST_DATA_BYTES / 1e6:,.0f} MB before its weights: raise it"
        )


def ensure_model(settings: Settings, sink: Sink) -> Path:
    """What the engine opens: a folder, or a GGUF file; fetched if it comes with mm1."""
    if settings.offline:
        return library.resolve(settings.model, models_dir(settings))
    return library.ensure(
        settings.model, bytes_progress(sink), models_dir(settings), on_note=sink.note
    )


def bytes_progress(sink: Sink) -> Callable[[str, int, int], None]:
    return lambda stage, done, total: sink.progress(stage, done, total, "bytes")


def models_dir(settings: Settings) -> Path | None:
    return None if settings.models_dir is None else Path(settings.models_dir).expanduser()


def cache_root(settings: Settings) -> Path:
    """Where extracted texts and contexts are kept."""
    if settings.cache_dir is not None:
        return Path(settings.cache_dir).expanduser()
    return _own_cache()


def _own_cache() -> Path:
    """The user's, whatever a settings file says: what is run must not come from a folder that was
    fetched, an mm1.toml in it and all."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("mm1"))


def cache(settings: Settings) -> ContextCache:
    return ContextCache(cache_root(settings) / "contexts", int(settings.max_cache * GB))


def cached_context(
    engine: Engine, documents: Iterable[Document], settings: Settings, sink: Sink
) -> ContextSource:
    """Contexts of `documents`, kept where the engine can; a server keeps what it read itself."""
    if not engine.capabilities.can_save or not engine.capabilities.saves_states:
        return Uncached(engine)
    return CachedContext(engine, cache(settings), sink, [one.path for one in documents])


def open_engine(
    model: "Path | ModelSource",
    settings: Settings,
    sink: Sink,
    num_tokens: int = 0,
    *,
    is_mapped: bool = False,
    selection: Selection | None = None,
) -> Engine:
    """For `num_tokens`, `is_mapped` and `selection` see `engine.engine.Engine`."""
    engine = api.open_engine(
        model,
        device=settings.device,
        chunk_tokens=settings.chunk_tokens,
        threads=settings.threads,
        # Far layers alone keep it: 3.4 GB for a million tokens of `mini` in place of 12.
        kv=settings.kv or (None if selection is None else "int8"),
        selection=selection,
        fast=settings.fast,
        num_tokens=num_tokens,
        is_mapped=is_mapped,
        spill_folder=cache_root(settings) / "spill",
        code_folder=_own_cache() / "code",
        on_progress=lambda done, total: sink.progress("loading model", done, total, "bytes"),
    )
    if settings.fast:
        sink.note(_FAST if engine.fingerprint.endswith(FAST) else _NOT_FAST)
    return engine


def selected_note(manifest: Manifest, engine: Engine, settings: Settings) -> str:
    """Of documents that are longer than the model was trained for."""
    return (
        f"{manifest.tokens:,} tokens are more than the {engine.max_positions:,} that "
        f"{settings.model} was trained for: all of them are read, and each question selects what "
        "it sees of them"
    )
