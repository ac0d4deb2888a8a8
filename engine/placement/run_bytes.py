"""Bytes of what a context holds: keys and values, states, a chunk's activations."""

from dataclasses import dataclass
from math import prod

import torch

from engine.config import LayerConfig, Mixer, ModelConfig
from engine.layers import kv_cache
from engine.placement.activations import chunk_bytes
from engine.placement.weight_bytes import (
    BytesOf,
    ModelParts,
    Precision,
    Shape,
    is_matrix,
    of_model,
    pooled_bytes,
    shapes,
)
from engine.quantized.forms import ITEM_BYTES, UNQUANTIZED, Form
from engine.weights import weight_bytes

_COPIES = 2  # of states of constant size: a context's, and a question's
_MOST_FORKS = 3  # of what is read: with the question, behind the answer, one more that is scored
_FORESEEING = ("mlp.router", "mlp.router_bias", "mlp_norm.weight")


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What is asked for: a context of `num_tokens`, read in chunks, and how it is kept.

    `dtype` is what matmuls run in, `kv_dtype` what keys and values are kept in. Of a context that
    `is_mapped` (saved while it grows) they are pages of a file, and only blocks that are not saved
    yet are counted. `precision` is what the checkpoint has its plain weights in; `config` says
    which are not plain, and what they are in.
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
    def held_as(self) -> str:
        """What the matrices are in when matmuls use them: a dtype, or forms such as int4/64."""
        if self.config.quantization != UNQUANTIZED:
            return str(self.config.quantization)
        return Precision.of(self.dtype)

    @property
    def plain_matrices(self) -> dict[str, Shape]:
        """Those that are not stored in few bits."""
        form_of = self.config.quantization.form_of
        return {
            name: shape
            for name, shape in shapes(self.config).items()
            if is_matrix(name) and form_of(name) is Form.PLAIN
        }

    @property
    def head_bytes(self) -> int:
        """Of the head as a float32 matrix of its own; 0 where it stays in a file's blocks."""
        name = "embed.weight" if self.config.tied_embeddings else "head.weight"
        is_block = self.config.quantization.form_of(name) is Form.BLOCKS
        return 0 if is_block else 4 * self.config.vocab_size * self.config.hidden_size

    def kv_layer_bytes(self, layer: LayerConfig) -> int:
        """What one layer keeps of all tokens; 0 for one that does not."""
        rows = self._row_bytes(layer) + self._sum_bytes(layer)
        return kv_cache.capacity(self.num_tokens) * rows

    def kv_token_bytes(self) -> int:
        """What one token after the context reads of what all layers keep."""
        return sum(map(self._read_bytes, self.config.layers))

    def kv_all_bytes(self) -> int:
        return sum(map(self.kv_layer_bytes, self.config.layers))

    def kv_held_bytes(self, layer: LayerConfig) -> int:
        """In memory, of one layer, where all layers run for a chunk before the next chunk."""
        held = self.kv_layer_bytes(layer)
        if self.is_mapped:
            summed = kv_cache.capacity(self.num_tokens) * self._sum_bytes(layer)  # are not mapped
            held -= summed
            # What one chunk fills, the block on its way to disk, and a fork's copy of the last one.
            blocks = -(-self.chunk_tokens // kv_cache.BLOCK_TOKENS) + 2
            held = summed + min(held, blocks * kv_cache.BLOCK_TOKENS * self._row_bytes(layer))
        return held

    def state_bytes(self, layer: LayerConfig) -> int:
        """Of constant size, twice: a question's fork makes new ones."""
        config = self.config
        if layer.mixer is Mixer.LIGHTNING:
            return _COPIES * 4 * config.num_heads * config.head_dim**2
        if layer.mixer is Mixer.DELTA:
            options = layer.delta
            state = 4 * options.value_size * options.key_dim
            rows = (options.taps - 1) * options.num_channels * self.dtype.itemsize
            return _COPIES * (state + rows)
        if layer.has_full_kv:
            return 0
        kept = layer.softmax.window_tokens - 1 + layer.softmax.sink_tokens
        return _COPIES * kept * 2 * config.num_kv_heads * config.head_dim * self.dtype.itemsize

    def activation_bytes(self) -> int:
        """The most that a chunk, packing a matrix before the first, or a question after the last
        has at once: it is asked of a fork, with copies of the blocks that are not full."""
        block, packing = kv_cache.BLOCK_TOKENS, self._packing_bytes() if self.on_cpu else 0
        chunk = chunk_bytes(self.config, self.num_tokens, self.chunk_tokens, self.kv_dtype, block)
        rest = self.num_tokens % block > 0
        copies = rest * block * sum(map(self._row_bytes, self.config.layers))
        return max(chunk, packing, copies)

    def reading_bytes(self) -> int:
        """Beside the pool while a part is read: a matrix as stored, and one before it is packed."""
        plain = self.plain_matrices.values()
        staged = max((prod(shape[-2:]) for shape in plain), default=0)
        packed = max((prod(shape) for shape in plain if len(shape) == 2), default=0)
        return self.precision.item_bytes * staged + (4 * packed if self.on_cpu else 0)

    def hidden_bytes(self) -> int:
        """The hidden states of all tokens between two layers."""
        return self.num_tokens * self.config.hidden_size * self.dtype.itemsize

    def _row_bytes(self, layer: LayerConfig) -> int:
        """What one layer keeps of one token."""
        if not layer.has_full_kv:
            return 0
        scale_bytes = 4 if self.kv_dtype == torch.int8 else 0
        if layer.mixer is Mixer.LATENT:
            return layer.latent.row_size * self.kv_dtype.itemsize + scale_bytes
        head_bytes = self.config.head_dim * self.kv_dtype.itemsize + scale_bytes
        return 2 * self.config.num_kv_heads * head_bytes

    def _sum_bytes(self, layer: LayerConfig) -> int:
        """Of the sums of keys by which blocks are chosen, for one token."""
        sparse = layer.softmax.sparse
        if layer.mixer is not Mixer.SOFTMAX or sparse is None:
            return 0
        return 4 * self.config.num_kv_heads * self.config.head_dim // sparse.stride

    def _read_bytes(self, layer: LayerConfig) -> int:
        sparse = layer.softmax.sparse
        if not self._sum_bytes(layer) or sparse is None or self.num_tokens < sparse.dense_tokens:
            return self.kv_layer_bytes(layer)
        seen = min(self.num_tokens, sparse.most_blocks * sparse.block_tokens)
        return seen * self._row_bytes(layer) + self.num_tokens * self._sum_bytes(layer)

    def _packing_bytes(self) -> int:
        """The largest matrix once more, while `Model.prepare_for_inference` changes its layout."""
        plain = [shape for shape in self.plain_matrices.values() if len(shape) == 2]
        return max([self.head_bytes, *(self.dtype.itemsize * prod(shape) for shape in plain)])


def work_bytes(
    config: ModelConfig, num_tokens: int, dtype: torch.dtype, kv_dtype: torch.dtype | None
) -> int:
    """What one of several pieces of work with a model adds while others go on, if it reads
    `num_tokens` at most: contexts, and the hidden states of a pass."""
    kv_dtype = kv_dtype or dtype
    run = RunSpec(config, num_tokens, num_tokens, dtype, kv_dtype, False, Precision.of(dtype))
    states = sum(run.state_bytes(layer) for layer in config.layers) // _COPIES
    return _MOST_FORKS * (states + run.kv_all_bytes()) + run.hidden_bytes()


def resident_bytes(run: RunSpec) -> ModelParts:
    """The weights as matmuls use them; a tied head is a float32 matrix of its own."""
    parts = _parts(run, lambda name, shape: weight_bytes(run.config, name, shape, run.dtype))
    tied = run.head_bytes if run.config.tied_embeddings else 0
    return ModelParts(parts.fixed_bytes + tied, parts.layers)


def on_disk_bytes(run: RunSpec) -> ModelParts:
    """The weights as the checkpoint has them."""
    return _parts(run, lambda name, shape: run.precision.stored_bytes(run.config, name, shape))


def cached_bytes(run: RunSpec) -> ModelParts:
    """The weights as they are kept when read on demand: dense parts as matmuls use them, experts
    as stored where that is narrower; see engine/streamed/weight_groups.py."""
    item_bytes = min(run.precision.item_bytes, run.dtype.itemsize)

    def num_bytes(name: str, shape: Shape) -> int:
        if len(shape) < 3:
            return weight_bytes(run.config, name, shape, run.dtype)
        form = run.config.quantization.form_of(name)
        pieces = [(item_bytes, shape[1:])]
        if form is not Form.PLAIN:
            pieces = [(ITEM_BYTES[dtype], own) for _, dtype, own in form.parts(*shape[1:])]
        return shape[0] * sum(pooled_bytes(each * prod(own)) for each, own in pieces)

    return _parts(run, num_bytes)


def routers_bytes(run: RunSpec) -> int:
    """Of all layers, with the norms before them: they stay, so that experts can be told early."""
    if not run.config.num_experts:
        return 0
    routed = (layer for layer in range(run.config.num_layers) if run.config.has_experts(layer))
    kept = {f"layers.{layer}.{name}" for layer in routed for name in _FORESEEING}
    return sum(4 * prod(shape) for name, shape in shapes(run.config).items() if name in kept)


def embedding_bytes(run: RunSpec) -> int:
    shape = (run.config.vocab_size, run.config.hidden_size)
    return weight_bytes(run.config, "embed.weight", shape, run.dtype)


def _parts(run: RunSpec, bytes_of: BytesOf) -> ModelParts:
    return of_model(run.config, shapes(run.config), bytes_of)
