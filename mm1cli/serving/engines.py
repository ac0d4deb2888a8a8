"""The models of the server: the plain one, and saved contexts as `context:NAME`.

Prompts of a plain model begin as often as not with one that was read before: the last ones are kept
in memory, and long ones on disk, as `mm1 analyze` keeps its documents.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.api import Context, Engine, saved_context
from mm1cli.answering.answer import Answerer
from mm1cli.answering.context_cache import ContextCache
from mm1cli.answering.context_source import FEWEST_SAVED_TOKENS, CachedContext
from mm1cli.commands.opened import Opened, open_saved, require_saved
from mm1cli.commands.opening import cache, ensure_model, open_engine
from mm1cli.errors import InputError
from mm1cli.ingest import corpus_file
from mm1cli.settings import Settings
from mm1cli.sink import Event, Sink

PREFIX = "context:"
_MOST_KEPT = 4  # contexts in memory

OnProgress = Callable[[int, int], None]


class Switch(Sink):
    """Speaks to whoever asks now."""

    def __init__(self) -> None:
        self.target: Callable[[Event], None] = lambda _: None

    def emit(self, event: Event) -> None:
        self.target(event)


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A saved context, as `/v1/models` lists it."""

    name: str
    folder: Path
    num_tokens: int
    model: str


class Engines:
    """Opens what is asked for; for the worker's thread alone, but `name`, `saved`."""

    def __init__(self, name: str, settings: Settings, sink: Sink, folders: Sequence[Path]) -> None:
        """`name` is what the plain model is called. Raises InputError for a folder that is none."""
        self.name, self._settings, self._sink = name, settings, sink
        self.saved = {one.name: one for one in map(_saved, folders)}
        self._engine: Engine | None = None
        self._kept: list[Context] = []
        self._open: tuple[str, Opened, Answerer, Switch] | None = None

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            model = ensure_model(self._settings, self._sink)
            self._engine = open_engine(model, self._settings, self._sink)
        return self._engine

    @property
    def _cache(self) -> ContextCache:
        return cache(self._settings)

    def read(self, token_ids: Sequence[int], on_progress: OnProgress) -> tuple[Context, int]:
        """A context of these tokens, and how many had been read before."""
        ids = list(token_ids)
        best = max(
            (one for one in self._kept if ids[: len(one)] == list(one.token_ids)),
            key=len,
            default=None,
        )
        context = self.engine.new_context() if best is None else best.fork()
        reused = len(context)
        is_long = len(ids) - reused >= FEWEST_SAVED_TOKENS and not self._settings.no_cache
        if is_long and self.engine.capabilities.can_save:
            found = CachedContext(self.engine, self._cache, self._sink).get(ids, (), on_progress)
            context, reused = found.context, found.reused_tokens
        elif len(ids) > reused:
            context.extend(ids[reused:], on_progress)
        self._kept = [*(one for one in self._kept if one is not best), context][-_MOST_KEPT:]
        return context, reused

    def answerer(self, name: str) -> tuple[Answerer, Switch]:
        """Of the saved context of that name; the one before it is let go."""
        if self._open is None or self._open[0] != name:
            self._open = None
            switch = Switch()
            opened = open_saved("serve", self.saved[name].folder, self._settings, switch)
            self._open = (name, opened, opened.answerer(switch), switch)
        return self._open[2:]


def _saved(folder: Path) -> SavedModel:
    require_saved(folder)
    saved = saved_context(folder)
    if saved.is_on_server:
        raise InputError(f"{folder} is kept by a server; ask it with mm1 ask --server")
    name = folder.resolve().name.removesuffix(".mm1ctx")
    model = corpus_file.model_of(saved.attachment(corpus_file.NAME))
    if not name.isprintable():
        raise InputError(f"{folder!s}: a name that cannot be printed; rename the folder")
    return SavedModel(f"{PREFIX}{name}", folder, saved.num_tokens, model)
