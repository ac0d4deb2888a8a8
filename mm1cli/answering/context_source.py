"""The context of all documents: read now, found on disk, or opened from a file of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.api import BuildResult, Context, ContextPlan, Engine, StoreError
from mm1cli.answering.context_cache import GB, ORIGIN, ContextCache, origin
from mm1cli.interrupts import defer_interrupts, note_saved
from mm1cli.sink import Sink

FEWEST_SAVED_TOKENS = 2048  # what is read again in a few seconds is not worth the disk

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class PrefixContext:
    """A context and how many of its tokens were not computed for it."""

    context: Context
    reused_tokens: int


class ContextSource(Protocol):
    """Where the context of the documents comes from."""

    def get(
        self, token_ids: Sequence[int], document_ends: Sequence[int], on_progress: OnProgress
    ) -> PrefixContext: ...


@dataclass(frozen=True, slots=True)
class Uncached:
    """Reads everything."""

    engine: Engine

    def get(
        self,
        token_ids: Sequence[int],
        document_ends: Sequence[int],  # noqa: ARG002
        on_progress: OnProgress,
    ) -> PrefixContext:
        self.engine.check_memory(len(token_ids))
        context = self.engine.new_context(is_saved_kind=True)
        context.extend(token_ids, on_progress)
        return PrefixContext(context, context.reused_tokens or 0)


@dataclass(frozen=True, slots=True)
class CachedContext:
    """Reads what no kept context begins with, and keeps the whole.

    Where the disk has no room, or has none any more, it goes on in memory from where it is.
    """

    engine: Engine
    cache: ContextCache
    sink: Sink
    documents: Sequence[str] = ()  # their paths, for who asks what is kept

    def get(
        self, token_ids: Sequence[int], document_ends: Sequence[int], on_progress: OnProgress
    ) -> PrefixContext:
        engine, cache = self.engine, self.cache
        num_bytes = engine.context_bytes(len(token_ids))
        if len(token_ids) < FEWEST_SAVED_TOKENS:
            return Uncached(engine).get(token_ids, document_ends, on_progress)
        if num_bytes > cache.max_bytes:
            self.sink.note(
                f"what is read is not kept for the next question: it takes {num_bytes / GB:.2f} "
                f"GB, and --max-cache is {cache.max_bytes / GB:.2f}"
            )
            return Uncached(engine).get(token_ids, document_ends, on_progress)
        folder = cache.folder_for(engine, token_ids)
        if why := cache.why_elsewhere(folder):
            self.sink.note(f"what is read is not kept for the next question: {why}")
            return Uncached(engine).get(token_ids, document_ends, on_progress)
        reached = 0
        with defer_interrupts() as check:

            def after_chunk(done: int, total: int) -> None:
                nonlocal reached
                reached = done
                if done:
                    note_saved()
                on_progress(done, total)
                check()

            def on_unsaved(why: str) -> None:
                self.sink.note(f"what is read is not kept for the next question: {why}")
                engine.check_memory(len(token_ids) - reached)

            built = engine.build_context(
                folder,
                ContextPlan(token_ids, document_ends, {ORIGIN: origin(self.documents)}),
                others=cache.alike(engine),
                on_progress=after_chunk,
                on_wait=lambda: self.sink.note("another mm1 is reading the same; waiting for it"),
                on_unsaved=on_unsaved,
            )
        if built.reused_layers:
            self.sink.note(resumed_note(built))
        if built.is_saved:
            note_saved()
            cache.touch(folder)
            cache.shrink(keep=folder)
        return PrefixContext(built.context, built.reused_tokens)


@dataclass(frozen=True, slots=True)
class SavedContextSource:
    """A context that is there already, of just these documents."""

    context: Context

    def get(
        self,
        token_ids: Sequence[int],
        document_ends: Sequence[int],  # noqa: ARG002
        on_progress: OnProgress,  # noqa: ARG002
    ) -> PrefixContext:
        if list(self.context.token_ids) != list(token_ids):
            raise StoreError("the saved context was made of other tokens; build it again")
        told = self.context.reused_tokens  # by a server, which may have had to read again
        return PrefixContext(self.context, len(self.context) if told is None else told)


def resumed_note(built: BuildResult) -> str:
    """Of a build that was stopped between layers."""
    return f"{built.reused_layers} of {built.num_layers} layers were done already"
