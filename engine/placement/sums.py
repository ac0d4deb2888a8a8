"""Bytes of what a context holds: keys and values, states, a chunk's activations."""

from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod

import torch

from engine.checkpoint import stays_float32
from engine.config import LayerConfig, Mixer, ModelConfig
from engine.layers import kv
from engine.placement.activations import chunk_bytes
from engine.placement.parts import ModelParts, Precision, Shape, is_matrix, of_model, shapes


@dataclass(frozen=True, slots=True)
class Run:
    """What is asked for: a context of `num_tokens`, read in chunks, and how it is kept.

    `dtype` is what products run in, `kv_dtype` what keys and values are kept in. Of a context that
    `is_mapped` (saved while it grows) they are pages of a file, and only blocks that are not saved
    yet are counted. `precision` is what the checkpoint has its matrices in.
    """

    config: ModelConfig
    num_tokens: int
    chunk_tokens: int
    dtype: torch.dtype
    kv_dtype: torch.dtype
    is_mapped: bool
    precision: Precision
    on_cpu: bool = True

    @property
    def num_chunks(self) -> int:
        return -(-self.num_tokens // self.chunk_tokens)

    @property
    def held_precision(self) -> Precision:
        """What the matrices are in when products use them."""
        if self.precision.is_quantised:
            return self.precision
        return Precision.FLOAT32 if self.dtype == torch.float32 else Precision.BFLOAT16

    def kv_layer_bytes(self) -> int:
        """Keys and values of one layer that keeps all tokens, in whole blocks."""
        return self._blocks * self._block_bytes

    def kv_all_bytes(self) -> int:
        return self.config.num_growing_layers * self.kv_layer_bytes()

    def kv_held_bytes(self, layer: LayerConfig) -> int:
        """In memory, of one layer, where all layers run for a chunk before the next chunk."""
        if not layer.keeps_all:
            return 0
        held = self._blocks
        if self.is_mapped:
            # What one chunk fills, the block on its way to disk, and a fork's copy of the last one.
            held = min(held, -(-self.chunk_tokens // kv.BLOCK_TOKENS) + 2)
        return held * self._block_bytes

    def state_bytes(self, layer: LayerConfig) -> int:
        """Of constant size, twice: a question's fork makes new ones."""
        config = self.config
        if layer.mixer is Mixer.LIGHTNING:
            return 2 * 4 * config.num_heads * config.head_dim**2
        if not layer.softmax.window_always:
            return 0
        kept = layer.softmax.window_tokens - 1 + layer.softmax.sink_tokens
        return 2 * kept * 2 * config.num_kv_heads * config.head_dim * self.dtype.itemsize

    def activation_bytes(self) -> int:
        """The most that a chunk, packing a matrix before the first, or a question after the last
        has at once: it is asked of a fork, with copies of the blocks that are not full."""
        block, packing = kv.BLOCK_TOKENS, self._packing_bytes() if self.on_cpu else 0
        chunk = chunk_bytes(self.config, self.num_tokens, self.chunk_tokens, self.kv_dtype, block)
        rest = self.num_tokens % block > 0
        copies = rest * self.config.num_growing_layers * self._block_bytes
        return max(chunk, packing, copies)

    def reading_bytes(self) -> int:
        """Beside the pool while a part is read: a matrix as stored, and one before it is packed."""
        if self.precision.is_quantised:
            return 0
        sizes = [prod(s[-2:]) for n, s in shapes_of(self.config).items() if is_matrix(n)]
        packed = [
            prod(s) for n, s in shapes_of(self.config).items() if is_matrix(n) and len(s) == 2
        ]
        item_bytes = 4 if self.precision is Precision.FLOAT32 else 2
        return item_bytes * max(sizes) + (4 * max(packed) if self.on_cpu else 0)

    def hidden_bytes(self) -> int:
        """The hidden states of all tokens between two layers."""
        return self.num_tokens * self.config.hidden_size * self.dtype.itemsize

    @property
    def _blocks(self) -> int:
        return -(-self.num_tokens // kv.BLOCK_TOKENS)

    @property
    def _block_bytes(self) -> int:
        scale_bytes = 4 if self.kv_dtype == torch.int8 else 0
        row_bytes = self.config.head_dim * self.kv_dtype.itemsize + scale_bytes
        return kv.BLOCK_TOKENS * 2 * self.config.num_kv_heads * row_bytes

    def _packing_bytes(self) -> int:
        """The largest matrix once more, while `Model.settle` changes its layout."""
        found = shapes_of(self.config)
        plain = [s for n, s in found.items() if len(s) == 2 and is_matrix(n)]
        head = (self.config.vocab_size, self.config.hidden_size)
        sizes = [4 * head[0] * head[1]]
        if not self.precision.is_quantised:
            sizes += [self.dtype.itemsize * s[0] * s[1] for s in plain]
        return max(sizes)


@lru_cache(maxsize=4)
def shapes_of(config: ModelConfig) -> dict[str, Shape]:
    """See `parts.shapes`; to be read, not changed."""
    return shapes(config)


def held(run: Run) -> ModelParts:
    """The weights as products use them; a tied head is a float32 matrix of its own."""
    parts = of_model(run.config, shapes_of(run.config), lambda name, shape: _held(run, name, shape))
    tied = 4 * run.config.vocab_size * run.config.hidden_size if run.config.tied_embeddings else 0
    return ModelParts(parts.fixed_bytes + tied, parts.layers)


def stored(run: Run) -> ModelParts:
    """The weights as the checkpoint has them."""

    def num_bytes(name: str, shape: Shape) -> int:
        if is_matrix(name):
            return run.precision.matrix_bytes(shape)
        if name.endswith("router") or run.precision is Precision.FLOAT32:
            return Precision.FLOAT32.matrix_bytes(shape)
        return Precision.BFLOAT16.matrix_bytes(shape)

    return of_model(run.config, shapes_of(run.config), num_bytes)


def in_pool(run: Run) -> ModelParts:
    """The weights as they are kept when read on demand: dense parts as products use them, experts
    as stored where that is narrower."""
    wide, narrow = held(run), stored(run)
    layers = tuple(
        replace(one, expert_bytes=min(one.expert_bytes, other.expert_bytes))
        for one, other in zip(wide.layers, narrow.layers, strict=True)
    )
    return ModelParts(wide.fixed_bytes, layers)


def routers_bytes(run: Run) -> int:
    """Of all layers: they stay, so that experts can be told early."""
    found = shapes_of(run.config).items()
    return sum(4 * prod(shape) for name, shape in found if name.endswith("router"))


def embedding_bytes(run: Run) -> int:
    return run.config.vocab_size * run.config.hidden_size * run.dtype.itemsize


def _held(run: Run, name: str, shape: Shape) -> int:
    if stays_float32(name):
        return Precision.FLOAT32.matrix_bytes(shape)
    if is_matrix(name):
        return run.held_precision.matrix_bytes(shape)
    plain = Precision.FLOAT32 if run.dtype == torch.float32 else Precision.BFLOAT16
    return plain.matrix_bytes(shape)
