"""Puts a context on disk while it is read layer by layer.

What a layer leaves for good, its KV or its states, goes to its place in the files of the finished
context, which have other names until all layers are in them. So nothing is on disk twice but the
hidden states between two layers, and a kill costs the layer at hand.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from engine import authentic, durable
from engine.activations import Activations
from engine.context import Context, OnProgress
from engine.errors import StoreError
from engine.layers.kv_cache import KVCache
from engine.model import Model
from engine.store import layer_progress, manifest, tensors
from engine.store.hidden_states import HiddenStateFiles
from engine.store.layer_progress import LayerProgress
from engine.store.manifest import TokenHashChain, kv_path, state_path
from engine.store.on_disk_error import DiskFailurePolicy
from engine.store.partial_file import PartialSafetensors
from engine.store.state_tensors import fixed_tensors
from engine.store.tensors import Expected


class LayerWriter:
    """Stands between the layers of `context` while it reads to the end of `goal`, and saves.

    `goal` is what to build, with no layer done; `found` what was done of it and is in the context's
    folder. `why` says why not all of that is used. Raises OSError if the disk has no room.
    """

    def __init__(
        self,
        folder: Path,
        context: Context,
        goal: LayerProgress,
        chain: TokenHashChain,
        found: LayerProgress | None,
        saving: DiskFailurePolicy,
    ) -> None:
        self._folder, self._context, self._chain, self._saving = folder, context, chain, saving
        self._area = folder / layer_progress.FOLDER
        self._done = goal if found is None else replace(goal, states=found.states)
        self._kv, self._fixed = dict(self._kv_parts()), dict(self._state_parts())
        model, num_tokens = context.model, goal.num_tokens - goal.first_token
        self._hidden = HiddenStateFiles(
            self._area, num_tokens, model.config.hidden_size, model.dtype
        )
        self._rows: Activations | None = None  # in place of files that cannot be written to
        self.why = ""
        if found is not None:
            self._done = self._usable(found, goal)
        if self.first_layer:
            durable.remove_parts(self._area)
        else:
            layer_progress.make_folder(folder)
        self._hidden.begin(self.first_layer)
        for layer in range(self.first_layer):
            self._restore(layer)
        self._begin_layer()

    @property
    def first_layer(self) -> int:
        return len(self._done.layers)

    @property
    def kept(self) -> str:
        """What a stop now leaves, in words."""
        return f"{self.first_layer} of {self._num_layers} layers are kept"

    @property
    def positions(self) -> tuple[int, ...]:
        """Where states are kept, ascending; the last is the end."""
        return self._done.states

    def get(self, first: int, last: int) -> Tensor:
        return (self._rows or self._hidden).get(first, last)

    def put(self, first: int, hidden: Tensor) -> None:
        if self._rows is None:
            try:
                self._hidden.put(first, hidden)
                return
            except OSError as error:
                self._saving.do(partial(_fail, error))
                self._rows = self._hidden.in_memory(first)
        self._rows.put(first, hidden)

    def after_chunk(self, layer: int, reached: int) -> None:
        self._saving.do(partial(self._save, layer, reached))

    def swap(self, num_layers: int) -> None:
        if num_layers:
            self._saving.do(self._end_layer)
        else:
            self._done = replace(self._done, hidden=("", self._hidden.digest))
        if self._rows is None:
            self._hidden.swap(is_saved=self._saving.is_possible)
        self._begin_layer()

    def put_logits(self, position: int, logits: Tensor) -> None:
        """The scores after one of `positions`."""
        self._saving.do(partial(self._fixed[position].put, "logits", logits))

    def seal(self) -> None:
        """Gives all files the names by which a finished context has them. Raises OSError."""
        for part in (*self._kv.values(), *self._fixed.values()):
            part.seal()
        durable.sync_folder(self._folder / "kv")
        durable.sync_folder(self._folder / "states")

    @property
    def _num_layers(self) -> int:
        return len(self._context.states)

    def _begin_layer(self) -> None:
        self._digest = authentic.Digest("layer")
        self._next_block = min(self._kv, default=0)
        self._touched: list[PartialSafetensors] = []

    def _save(self, layer: int, reached: int) -> None:
        """What `layer` has for good since it was last called."""
        state = self._context.states[layer]
        if not isinstance(state, KVCache):
            if reached in self._fixed:
                self._put(self._fixed[reached], layer, state.tensors())
            return
        segment, end = manifest.SEGMENT_TOKENS, self._done.num_tokens
        while (index := self._next_block) * segment < reached:
            if min((index + 1) * segment, end) > reached:
                break
            block, part = state.block(index), self._kv[index]
            self._put(part, layer, block)
            if (index + 1) * segment <= reached:
                # From the file from now on: memory stays bounded however long the context is.
                mapped = {name: part.get(f"layer.{layer}.{name}") for name in block}
                state.adopt(index, mapped, segment)
            self._next_block += 1

    def _put(self, part: PartialSafetensors, layer: int, named: Mapping[str, Tensor]) -> None:
        self._touched.append(part)
        for name in sorted(named):
            self._digest.update(part.put(f"layer.{layer}.{name}", named[name]))

    def _end_layer(self) -> None:
        self._hidden.sync()
        hidden = (self._done.hidden[1], self._hidden.digest)
        for part in self._touched:
            part.sync()
        durable.sync_folder(self._area)
        layers = (*self._done.layers, self._digest.hexdigest())
        done = replace(self._done, layers=layers, hidden=hidden)
        done.write(self._folder)
        self._done = done

    def _usable(self, found: LayerProgress, goal: LayerProgress) -> LayerProgress:
        """As much of `found` as its files give: all, all but the last layer, or nothing, which is
        `goal`."""
        count = len(found.layers)
        good, self.why = self._count_whole(found)
        for layers, checksum in ((count, found.hidden[1]), (count - 1, found.hidden[0])):
            if 0 < layers <= good and self._is_there(layers, checksum):
                done = replace(found, layers=found.layers[:layers], hidden=(checksum, checksum))
                break
        else:
            done = self._done = goal
            self._kv, self._fixed = dict(self._kv_parts()), dict(self._state_parts())
        if self.why:
            self.why += f"; {len(done.layers)} of {count} finished layers are used"
        return done

    def _is_there(self, num_layers: int, checksum: str) -> bool:
        try:
            if self._hidden.checksum(num_layers) == checksum:
                return True
            why = f"{self._area}: damaged: the hidden states do not give their checksum"
        except StoreError as error:
            why = str(error)
        self.why = self.why or why
        return False

    def _count_whole(self, found: LayerProgress) -> tuple[int, str]:
        """How many layers, from the first on, left what their checksums say; why not all."""
        may_be_sealed = len(found.layers) == self._num_layers
        for layer, checksum in enumerate(found.layers):
            try:
                for part in self._parts_of(layer):
                    part.find(may_be_sealed=may_be_sealed)
                digest = authentic.Digest("layer")
                for part in self._parts_of(layer):
                    for name in part.names(f"layer.{layer}."):
                        digest.update(tensors.content(part.get(name)))
            except StoreError as error:
                return layer, str(error)
            if digest.hexdigest() != checksum:
                return layer, f"{self._area}: damaged: layer {layer} does not give its checksum"
        return len(found.layers), ""

    def _restore(self, layer: int) -> None:
        """Puts what a finished layer left into its state."""
        state, prefix = self._context.states[layer], f"layer.{layer}."
        if isinstance(state, KVCache):
            for index, part in self._kv.items():
                named = {n.removeprefix(prefix): part.get(n) for n in part.names(prefix)}
                segment = manifest.SEGMENT_TOKENS
                state.adopt(index, named, min(segment, self._done.num_tokens - index * segment))
        else:
            part = self._fixed[self._done.num_tokens]
            named = {n.removeprefix(prefix): part.get(n) for n in part.names(prefix)}
            state.restore(named, self._done.num_tokens)

    def _parts_of(self, layer: int) -> Sequence[PartialSafetensors]:
        is_kv = isinstance(self._context.states[layer], KVCache)
        return tuple((self._kv if is_kv else self._fixed).values())

    def _kv_parts(self) -> Iterator[tuple[int, PartialSafetensors]]:
        """One for each block that the tokens to be read are in, by its index."""
        caches = {i: s for i, s in enumerate(self._context.states) if isinstance(s, KVCache)}
        segment, end = manifest.SEGMENT_TOKENS, self._done.num_tokens
        for index in range(self._done.first_token // segment, -(-end // segment)) if caches else ():
            first, last = index * segment, min((index + 1) * segment, end)
            expected = {
                f"layer.{layer}.{name}": Expected(shape, dtype)
                for layer, cache in caches.items()
                for name, (shape, dtype) in cache.block_shapes(last - first).items()
            }
            chain = self._chain.at(last)
            facts = {"first": str(first), "last": str(last), "chain": chain}
            path = self._area / f"kv-{first:010d}.safetensors"
            yield (
                index,
                PartialSafetensors(
                    path, kv_path(self._folder, first, last, chain), expected, facts
                ),
            )

    def _state_parts(self) -> Iterator[tuple[int, PartialSafetensors]]:
        """One for each position whose states are kept."""
        fixed = fixed_tensors(self._context.states)
        expected = {n: Expected(tuple(t.shape), t.dtype) for n, t in fixed.items()}
        vocab_size = self._context.model.config.vocab_size
        expected["logits"] = Expected((vocab_size,), torch.float32)
        for position in self._done.states:
            chain = self._chain.at(position)
            facts = {"position": str(position), "chain": chain}
            path = self._area / f"states-{position:010d}.safetensors"
            yield (
                position,
                PartialSafetensors(
                    path, state_path(self._folder, position, chain), expected, facts
                ),
            )


@torch.inference_mode()
def read(
    context: Context, token_ids: Sequence[int], writer: LayerWriter, on_progress: OnProgress
) -> None:
    """Extends `context` by `token_ids`, which end where `writer` does, through one layer after the
    other."""
    start, logits = len(context), None
    for done, hidden in context.chunks(token_ids, on_progress, writer):
        if start + done in writer.positions:
            logits = context.model.logits(hidden[-1:])[0]
            writer.put_logits(start + done, logits)
    assert logits is not None
    context.commit([], logits)
    on_progress(len(token_ids), len(token_ids))


def hidden_bytes(model: Model, num_tokens: int) -> int:
    """What hidden states take on disk while `model` reads so many tokens; 0 if it keeps none."""
    if not model.is_streamed:
        return 0
    size = (num_tokens, model.config.hidden_size)
    return HiddenStateFiles(Path(), *size, model.dtype).num_bytes


def _fail(error: OSError) -> None:
    raise error
