"""What commands open: the model's folder, the engine, the caches."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from engine import api
from engine.api import Engine
from mm1cli.answering.context_cache import GB, ContextCache
from mm1cli.models import library
from mm1cli.models.default import AUTO, choose
from mm1cli.settings import Settings
from mm1cli.sink import RunInfo, Sink


def begin(command: str, settings: Settings, sink: Sink) -> Settings:
    """Tells `sink` what begins, and, where no model was named, which is taken and why.

    The settings that are returned have its name.
    """
    choice = choose(settings.device) if settings.model == AUTO else None
    settings = settings if choice is None else replace(settings, model=choice.name)
    sink.init(RunInfo(command, settings.model))
    if choice is not None:
        sink.note(f"model: {choice.name} ({choice.why})")
    return settings


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
    import platformdirs

    return Path(platformdirs.user_cache_dir("mm1"))


def cache(settings: Settings) -> ContextCache:
    return ContextCache(cache_root(settings) / "contexts", int(settings.max_cache * GB))


def open_engine(
    model: Path, settings: Settings, sink: Sink, num_tokens: int = 0, *, is_mapped: bool = False
) -> Engine:
    """For `num_tokens` and `is_mapped` see `engine.engine.Engine`."""
    return api.open_engine(
        model,
        device=settings.device,
        chunk_tokens=settings.chunk_tokens,
        threads=settings.threads,
        kv=settings.kv,
        num_tokens=num_tokens,
        is_mapped=is_mapped,
        spill_folder=cache_root(settings) / "spill",
        on_progress=lambda done, total: sink.progress("loading model", done, total, "bytes"),
    )
