"""Puts a context on disk while it grows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from engine import durable
from engine.context import Context
from engine.layers.kv_cache import KVCache
from engine.prefill import grid
from engine.protocols import ContextPlan
from engine.store import tensors
from engine.store.manifest import (
    FINISHED,
    PARTIAL,
    SEGMENT_TOKENS,
    Compatibility,
    Manifest,
    OpenedContext,
    TokenHashChain,
    attachment_path,
    facts_of,
    kv_path,
    state_path,
)
from engine.store.owned import remove_unreferenced
from engine.store.state_tensors import checkpoint_every, fixed_tensors, kv_bytes_per_token, of_layer


@dataclass(frozen=True, slots=True)
class Reuse:
    saved: OpenedContext
    tokens: int


class Writer:
    """Saves `context` while it grows: KV as its blocks fill, states at checkpoints."""

    def __init__(
        self,
        folder: Path,
        compatibility: Compatibility,
        plan: ContextPlan,
        context: Context,
        reuse: Reuse | None,
    ) -> None:
        self._folder, self._compatibility = folder, compatibility
        self._plan, self._context = plan, context
        self._chain = TokenHashChain(compatibility, plan.token_ids)
        self._saved_tokens = len(context) // SEGMENT_TOKENS * SEGMENT_TOKENS
        known = reuse.saved.manifest.states if reuse is not None else ()
        at_end = [len(plan.token_ids)] if len(context) == len(plan.token_ids) else []
        self._states = [p for p in known if p <= len(context) and p not in at_end] + at_end
        self._has_end = bool(at_end)
        fixed = sum(t.nbytes for t in fixed_tensors(context.states).values())
        self._fixed_bytes, self._kv_bytes = fixed, kv_bytes_per_token(context.states)
        self._every = checkpoint_every(context.states)
        size = compatibility.chunk_tokens
        self._ends = {end // size * size for end in plan.document_ends}
        if not self._has_end:
            self._write_tokens()

    def after_chunk(self) -> None:
        reached = len(self._context)
        new = self._save_segments(whole=True)
        if self._is_checkpoint(reached, self._states):
            self._save_state(reached)
            new = True
        if new:
            self._write_manifest(PARTIAL)

    def keep(self) -> None:
        """Saves where the context stands, between two checkpoints."""
        reached = len(self._context)
        if reached and self._context.is_whole and reached < len(self._plan.token_ids):
            self._save_segments(whole=False)
            if self._fixed_bytes and reached not in self._states:
                self._save_state(reached)
            self._write_manifest(PARTIAL)

    def checkpoints(self) -> list[int]:
        """The positions at which `after_chunk` would save a state, and the end."""
        start, end = len(self._context), len(self._plan.token_ids)
        found: list[int] = []
        for _, reached in grid(start, end, self._compatibility.chunk_tokens):
            if self._is_checkpoint(reached, [*self._states, *found]):
                found.append(reached)
        return [*found, end]

    def note_saved(self, states: Sequence[int]) -> None:
        """Says that all KV and the states at these positions, the end included, are on disk."""
        self._states = sorted({*self._states, *states})
        self._has_end = True

    def finish(self) -> None:
        """Writes what is left and the manifest, then removes what nothing names any more."""
        if not self._has_end:
            self._save_segments(whole=False)
            self._save_state(len(self._context))
        else:
            self._saved_tokens = len(self._context)
            self._write_tokens()
        for name, content in self._plan.attachments.items():
            path = attachment_path(self._folder, name, facts_of(content)[1])
            if not path.exists():
                durable.write(path, partial(_write_bytes, content))
        self._write_manifest(FINISHED)
        remove_unreferenced(self._folder)

    def _is_checkpoint(self, reached: int, states: Sequence[int]) -> bool:
        if not self._fixed_bytes or reached >= len(self._plan.token_ids):
            return False
        last = max((p for p in states if p < reached), default=0)
        if reached // self._every > last // self._every:
            return True
        # At a document's end only where the state is smaller than the KV read since the last one.
        worth_it = self._fixed_bytes <= (reached - last) * self._kv_bytes
        return reached in self._ends and worth_it

    def _save_segments(self, *, whole: bool) -> bool:
        """Saves blocks that are full, and the last one as it is unless `whole`."""
        caches = {i: s for i, s in enumerate(self._context.states) if isinstance(s, KVCache)}
        reached, saved_any = len(self._context), False
        while self._saved_tokens < reached:
            first = self._saved_tokens // SEGMENT_TOKENS * SEGMENT_TOKENS
            last = min(first + SEGMENT_TOKENS, reached)
            if whole and last - first < SEGMENT_TOKENS:
                break
            if caches:
                self._save_segment(caches, first, last)
            self._saved_tokens, saved_any = last, True
        return saved_any

    def _save_segment(self, caches: Mapping[int, KVCache], first: int, last: int) -> None:
        index, chain = first // SEGMENT_TOKENS, self._chain.at(last)
        path = kv_path(self._folder, first, last, chain)
        named = {
            f"layer.{layer}.{name}": tensor
            for layer, cache in caches.items()
            for name, tensor in cache.block(index).items()
        }
        facts = {"first": str(first), "last": str(last), "chain": chain}
        tensors.save(path, named, facts)
        if last - first == SEGMENT_TOKENS:
            # From the file from now on: memory stays bounded however long the context is.
            shapes = {n: tensors.Expected(tuple(t.shape), t.dtype) for n, t in named.items()}
            mapped = tensors.load(path, shapes, facts, check=False)
            for layer, cache in caches.items():
                cache.adopt(index, of_layer(mapped, layer), SEGMENT_TOKENS)

    def _save_state(self, position: int) -> None:
        assert self._context.logits is not None
        named = fixed_tensors(self._context.states) | {"logits": self._context.logits}
        chain = self._chain.at(position)
        facts = {"position": str(position), "chain": chain}
        tensors.save(state_path(self._folder, position, chain), named, facts)
        self._states = sorted({*self._states, position})

    def _write_tokens(self) -> None:
        ids = np.asarray(self._plan.token_ids, dtype="<i4")
        path = self._folder / self._manifest(PARTIAL).tokens_name
        if not path.exists():
            durable.write(path, partial(_write_bytes, ids.tobytes()))

    def _write_manifest(self, name: str) -> None:
        self._manifest(name).write(self._folder / name)

    def _manifest(self, name: str) -> Manifest:
        kept = self._plan.attachments if name == FINISHED else {}
        return Manifest(
            self._compatibility,
            num_tokens=len(self._plan.token_ids),
            saved_tokens=self._saved_tokens,
            states=tuple(self._states),
            chain=self._chain.at(len(self._plan.token_ids)),
            attachments={name: facts_of(content) for name, content in kept.items()},
        )


def _write_bytes(content: bytes, path: Path) -> None:
    path.write_bytes(content)
