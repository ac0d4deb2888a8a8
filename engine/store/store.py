"""Contexts on disk: built once, gone on with after a kill, opened again without a copy.

A folder holds `tokens-*.bin`, `kv/` (the keys and values of 4,096 tokens a file, never changed
once written), `states/` (Lightning states at checkpoints and at the end) and a manifest, written
last. Files are named by a hash of all tokens before their end, so an old and a new context stand
side by side until the new manifest replaces the old one; then what nothing names is removed.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import filelock
import numpy as np
import torch
from torch import Tensor

from engine import durable
from engine.context import Context, OnProgress
from engine.errors import PlacementError, StoreError
from engine.layers.kv_cache import BLOCK_TOKENS, KVCache
from engine.model import LayerState, Model
from engine.protocols import ContextPlan
from engine.store import layerwise, tensors
from engine.store.layer_progress import LayerProgress, held_bytes
from engine.store.layer_progress import find as find_passed
from engine.store.layerwise import LayerWriter
from engine.store.manifest import (
    FINISHED,
    PARTIAL,
    SEGMENT_TOKENS,
    Compatibility,
    Manifest,
    OpenedContext,
    TokenHashChain,
    facts_of,
)
from engine.store.on_disk_error import DiskFailurePolicy, OnUnsaved
from engine.store.owned import AREAS, LOCK, remove_unreferenced, why_not_built
from engine.store.state_tensors import fixed_tensors, kv_dtype, num_bytes, of_layer
from engine.store.writer import Reuse, Writer

assert SEGMENT_TOKENS == BLOCK_TOKENS

_SPARE_BYTES = 64 * 2**20

OnWait = Callable[[], None]


@dataclass(frozen=True, slots=True)
class BuildResult:
    """`reused_tokens` of the context were on disk already, and of a streamed model what the first
    `reused_layers` of `num_layers` make of the rest; `why` says why not more was."""

    context: Context
    reused_tokens: int
    why: str
    is_saved: bool
    num_layers: int
    reused_layers: int = 0


class Store:
    """The saved context in `folder`, as `model` and `compatibility` make it."""

    def __init__(self, folder: Path, model: Model, compatibility: Compatibility) -> None:
        self.folder = folder
        self._model, self._compatibility = model, compatibility

    def build(
        self,
        plan: ContextPlan,
        *,
        others: Sequence[Path] = (),
        on_progress: OnProgress | None = None,
        on_wait: OnWait | None = None,
        on_unsaved: OnUnsaved | None = None,
    ) -> BuildResult:
        """The context of `plan.token_ids`, saved; what is on disk already is not read again.

        It begins with the longest part that the folder itself, finished or not, or one of the
        folders `others` has. `on_progress` gets tokens done and in all; if it raises, or anything
        else stops the work, the same call goes on from the last checkpoint, or, where the model is
        streamed, behind the last layer that was finished. Another process that builds here is
        waited for, after a call of `on_wait`.

        Raises PlacementError before any work if the disk has no room, StoreError if the folder
        cannot be used, or holds what is no context's. With `on_unsaved` neither: it gets the
        reason, and the context goes on in memory from where it is, unless `on_unsaved` raises.
        """
        if not plan.token_ids:
            raise StoreError("nothing to build a context from")
        saving = DiskFailurePolicy(self.folder, on_unsaved)
        if foreign := saving.do(partial(why_not_built, self.folder)):
            saving.give_up(StoreError(f"{foreign}; choose another folder"))
        with ExitStack() as held:
            lock = saving.do(self._try_lock)
            if lock is not None:
                held.callback(lock.release)
                if not lock.is_locked:
                    if on_wait is not None:
                        on_wait()
                    saving.do(lock.acquire)
            saving.do(self._prepare)
            reuse, why = self._find(plan.token_ids, others)
            passed = None
            if self._model.is_streamed:
                passed, reuse, why = self._find_layers(plan, reuse, why)
            try:
                context = self._begin(reuse, saving)
            except StoreError as error:  # what was saved is damaged: it is made anew
                reuse, why = None, str(error)
                passed = passed if passed is not None and not passed.first_token else None
                context = self._begin(None, saving)
            start, layers = len(context), 0
            if self._is_done(plan, reuse):
                # A kill after the manifest leaves files. Nothing needs them, so they may stay.
                if saving.is_possible:
                    with suppress(OSError):
                        remove_unreferenced(self.folder)
            else:
                layers, why = self._go_on(plan, context, reuse, passed, why, saving, on_progress)
            why = why if start < len(plan.token_ids) else ""
            num_layers = self._model.config.num_layers
            return BuildResult(context, start, why, saving.is_possible, num_layers, layers)

    def open(self, *, check: bool = True) -> Context:
        """The finished context. With `check` every byte is held against its checksum.

        Raises StoreError with the reason if it is damaged or was made otherwise.
        """
        saved = OpenedContext.read(self.folder)
        if why := self._compatibility.differs_in(saved.manifest.compatibility):
            raise StoreError(f"{self.folder}: {why}; build it again")
        try:
            return self._restore(saved, saved.manifest.num_tokens, check=check)
        except StoreError:
            if Manifest.read(self.folder / FINISHED) == saved.manifest:
                raise
            return self.open(check=check)  # it was replaced while it was read

    def _begin(self, reuse: Reuse | None, saving: DiskFailurePolicy) -> Context:
        if reuse is None:
            return Context(
                self._model,
                self._compatibility.chunk_tokens,
                kv_dtype=kv_dtype(self._compatibility.kv),
            )
        saving.do(partial(self._bring, reuse))
        return self._restore(reuse.saved, reuse.tokens, check=True)

    def _is_done(self, plan: ContextPlan, reuse: Reuse | None) -> bool:
        """Whether just this context is here and finished, so that nothing has to be written."""
        if reuse is None or reuse.saved.folder != self.folder:
            return False
        manifest = reuse.saved.manifest
        kept = {name: facts_of(content) for name, content in plan.attachments.items()}
        same = reuse.tokens == len(plan.token_ids) == manifest.num_tokens
        return same and manifest.is_finished and manifest.attachments == kept

    def _go_on(
        self,
        plan: ContextPlan,
        context: Context,
        reuse: Reuse | None,
        passed: LayerProgress | None,
        why: str,
        saving: DiskFailurePolicy,
        on_progress: OnProgress | None,
    ) -> tuple[int, str]:
        """Reads what is left; returns the number of layers that were done, and why not more."""
        start, total = len(context), len(plan.token_ids)
        saving.do(partial(self._check_room, total, start))
        writer = saving.do(lambda: Writer(self.folder, self._compatibility, plan, context, reuse))
        layers: LayerWriter | None = None
        num_layers = 0

        def after_chunk(done: int, _of: int) -> None:
            if writer is not None and layers is None:
                saving.do(writer.after_chunk)
            if on_progress is not None:
                on_progress(start + done, total)

        try:
            if self._model.is_streamed and start < total and writer is not None:
                layers = saving.do(partial(self._layers, plan, context, writer, passed, saving))
            if layers is not None:
                num_layers, why = layers.first_layer, layers.why or why
                layerwise.read(context, plan.token_ids[start:], layers, after_chunk)
            elif start < total:
                context.extend(plan.token_ids[start:], after_chunk)
        except BaseException as error:
            # An interrupt: nothing is wrong with the context.
            if not isinstance(error, Exception) and layers is not None:
                error.add_note(layers.kept)
            elif not isinstance(error, Exception) and writer is not None:
                saving.do(writer.keep)
            raise
        if layers is not None:
            saving.do(layers.seal)
        if writer is not None:
            if layers is not None:
                writer.note_saved(layers.positions)
            saving.do(writer.finish)
        return num_layers, why

    def _layers(
        self,
        plan: ContextPlan,
        context: Context,
        writer: Writer,
        passed: LayerProgress | None,
        saving: DiskFailurePolicy,
    ) -> LayerWriter:
        if passed is None:
            writer.keep()  # so that what the layers begin with stays as long as they do
        goal = self._goal(plan, len(context), writer.checkpoints())
        chain = TokenHashChain(self._compatibility, plan.token_ids)
        return LayerWriter(self.folder, context, goal, chain, passed, saving)

    def _goal(
        self, plan: ContextPlan, first_token: int, states: Sequence[int] = ()
    ) -> LayerProgress:
        total = len(plan.token_ids)
        chain = TokenHashChain(self._compatibility, plan.token_ids).at(total)
        dtype = str(self._model.dtype).removeprefix("torch.")
        return LayerProgress(self._compatibility, total, chain, first_token, tuple(states), dtype)

    def _find_layers(
        self, plan: ContextPlan, reuse: Reuse | None, why: str
    ) -> "tuple[LayerProgress | None, Reuse | None, str]":
        """Layers that were done before with what they begin with, or `reuse` where that leaves less
        to be done."""
        num_layers, total = self._model.config.num_layers, len(plan.token_ids)
        found, reason = find_passed(self.folder, self._goal(plan, 0), num_layers)
        if found is None:
            return None, reuse, reason or why
        begin: Reuse | None = None
        if found.first_token:
            begin, _ = self._find(plan.token_ids, [], names=[PARTIAL])
            if begin is None or begin.tokens != found.first_token:
                return None, reuse, f"{self.folder}: what its layers begin with is not there"
        reused = reuse.tokens if reuse is not None else 0
        left = (num_layers - len(found.layers)) * (total - found.first_token)
        if left > num_layers * (total - reused):
            return None, reuse, why
        return found, begin, ""

    def _find(
        self,
        token_ids: Sequence[int],
        others: Sequence[Path],
        names: Sequence[str] = (FINISHED, PARTIAL),
    ) -> "tuple[Reuse | None, str]":
        """The best beginning there is, and why it is not longer."""
        wanted = np.asarray(token_ids, dtype=np.int32)
        best: Reuse | None = None
        why = "nothing was saved before"
        places = [(self.folder, name) for name in names]
        places += [(other, FINISHED) for other in others]
        for folder, name in places:
            if not (folder / name).exists():
                continue
            try:
                saved = OpenedContext.read(folder, name)
                tokens = saved.reusable(wanted, needs_state=self._needs_state)
                reason = self._compatibility.differs_in(saved.manifest.compatibility)
                # Of other documents nobody asked.
                if reason and (tokens or folder == self.folder):
                    raise StoreError(f"{folder}: {reason}")
            except StoreError as error:
                why = str(error) if best is None else why
                continue
            if not reason and tokens > (best.tokens if best is not None else 0):
                best = Reuse(saved, tokens)
                why = f"the tokens differ, or no checkpoint stands, after {tokens:,}"
            elif best is None and folder == self.folder:
                why = f"{folder}: begins with other tokens, or stopped before its first checkpoint"
        return best, why

    def _bring(self, reuse: "Reuse") -> None:
        """Links the files that `reuse` stands on into this folder; it changes none of them."""
        source = reuse.saved
        if source.folder == self.folder:
            return
        paths = [source.kv_path(*s) for s in source.manifest.segments if s[1] <= reuse.tokens]
        paths += [source.state_path(p) for p in source.manifest.states if p <= reuse.tokens]
        for path in paths:
            _link(path, self.folder / path.parent.name / path.name)

    @property
    def _needs_state(self) -> bool:
        return any(not isinstance(s, KVCache) for s in self._model.empty_states())

    def _restore(self, saved: OpenedContext, position: int, *, check: bool) -> Context:
        states = self._model.empty_states(kv_dtype=kv_dtype(self._compatibility.kv))
        caches = {i: s for i, s in enumerate(states) if isinstance(s, KVCache)}
        for index, (first, last) in enumerate(saved.manifest.segments):
            if first >= position:
                break
            shapes = {
                f"layer.{layer}.{name}": tensors.Expected(shape, dtype)
                for layer, cache in caches.items()
                for name, (shape, dtype) in cache.block_shapes(last - first).items()
            }
            facts = {"first": str(first), "last": str(last), "chain": saved.chain.at(last)}
            found = tensors.load(saved.kv_path(first, last), shapes, facts, check=check)
            for layer, cache in caches.items():
                cache.adopt(index, of_layer(found, layer), min(last, position) - first)
        logits: Tensor | None = None
        if self._needs_state or position == saved.manifest.num_tokens:
            logits = self._restore_states(saved, position, states, check=check)
        token_ids = saved.token_ids[:position].tolist()
        return Context.restored(
            self._model, self._compatibility.chunk_tokens, states, token_ids, logits
        )

    def _restore_states(
        self, saved: OpenedContext, position: int, states: list[LayerState], *, check: bool
    ) -> Tensor:
        fixed = fixed_tensors(states)
        shapes = {n: tensors.Expected(tuple(t.shape), t.dtype) for n, t in fixed.items()}
        shapes["logits"] = tensors.Expected((self._model.config.vocab_size,), torch.float32)
        facts = {"position": str(position), "chain": saved.chain.at(position)}
        found = tensors.load(saved.state_path(position), shapes, facts, check=check)
        for layer, state in enumerate(states):
            if not isinstance(state, KVCache):
                state.restore(of_layer(found, layer), position)
        return found["logits"].to(self._model.head_device)

    def _check_room(self, num_tokens: int, reused: int) -> None:
        kv = self._compatibility.kv
        needed = num_bytes(self._model, num_tokens, kv) - num_bytes(self._model, reused, kv)
        needed += layerwise.hidden_bytes(self._model, num_tokens - reused)
        needed -= held_bytes(self.folder)
        free = shutil.disk_usage(self.folder).free
        if needed + _SPARE_BYTES > free:
            raise PlacementError(
                f"{self.folder}: saving {num_tokens:,} tokens takes {needed / 2**30:.2f} GiB more, "
                f"{free / 2**30:.2f} GiB are free there; choose another folder or make room"
            )

    def _try_lock(self) -> filelock.BaseFileLock:
        """The folder's lock, taken if nobody has it."""
        durable.private_folder(self.folder)
        lock = filelock.FileLock(self.folder / LOCK)
        with suppress(filelock.Timeout):
            lock.acquire(blocking=False)
        return lock

    def _prepare(self) -> None:
        for name in AREAS:
            durable.private_folder(self.folder / name)
            durable.remove_parts(self.folder / name)
        durable.remove_parts(self.folder)


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise StoreError(f"{source}: missing") from None
    except OSError:  # another disk, or one without links
        durable.write(target, partial(shutil.copyfile, source))


def verify(folder: Path) -> int:
    """Reads every byte of the finished context in `folder` and returns how many there are.

    Needs no model. Raises StoreError at the first file that is missing, damaged or misplaced.
    """
    saved = OpenedContext.read(folder)
    total = (folder / FINISHED).stat().st_size + 4 * len(saved.token_ids)
    for first, last in saved.manifest.segments:
        facts = {"first": str(first), "last": str(last), "chain": saved.chain.at(last)}
        total += tensors.verify(saved.kv_path(first, last), facts)
    for position in saved.manifest.states:
        facts = {"position": str(position), "chain": saved.chain.at(position)}
        total += tensors.verify(saved.state_path(position), facts)
    return total + sum(len(saved.attachment(name)) for name in saved.manifest.attachments)
