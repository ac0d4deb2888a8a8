"""What commands open: the model's folder, the engine, the caches."""

from pathlib import Path

from engine import api
from engine.api import Engine
from mm1cli.answering.context_cache import GB, ContextCache
from mm1cli.models import library
from mm1cli.settings import Settings
from mm1cli.sink import Sink


def ensure_model(settings: Settings, sink: Sink) -> Path:
    return library.ensure(
        settings.model, lambda stage, done, total: sink.progress(stage, done, total, "bytes")
    )


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
