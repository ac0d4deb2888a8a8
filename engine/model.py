"""embed -> layers -> norm -> head. Every layer keeps the one contract:

    forward(hidden [T, D], state, start) -> hidden [T, D]

for any T >= 1, `start` being the position of the first token; only that layer changes `state`.
With a `StaticKVCache` as state `start` may be an integer [1] on the device (see
engine/cuda_graph.py). B independent sequences of equal length may stand beside each other: hidden
[T, B, D].
"""

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kernels
from engine.activations import Activations
from engine.config import LayerConfig, Mixer, ModelConfig, Residual
from engine.layers.delta import DeltaState, GatedDeltaNet
from engine.layers.experts import ExpertsMLP
from engine.layers.kv_cache import DifferentiableKV, KVCache, LatentCache, WindowCache
from engine.layers.latent import LatentAttention
from engine.layers.lightning import LightningAttention, LightningState
from engine.layers.mlp import DenseMLP
from engine.layers.native import NativeLayer, native_forward
from engine.layers.norm import RMSNorm
from engine.layers.softmax import SoftmaxAttention
from engine.layers.sparse_kv import SparseCache
from engine.layers.static_kv import StaticKVCache
from engine.quantized.forms import MATRICES, Form
from kernels import GgmlWeight

LayerState = LightningState | DeltaState | KVCache | WindowCache
StepState = LayerState | StaticKVCache


class Layer(nn.Module):
    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        self.config: LayerConfig = config.layers[index]
        self.postnorm = config.postnorm

        def norm(is_there: bool) -> RMSNorm | None:
            return RMSNorm(config.hidden_size, config.norm_eps) if is_there else None

        self.mixer_norm = norm(config.input_norms)
        self.mixer_out_norm = norm(config.output_norms)
        self.mixer: nn.Module
        if self.config.mixer is Mixer.LIGHTNING:
            self.mixer = LightningAttention(config, index)
        elif self.config.mixer is Mixer.DELTA:
            self.mixer = GatedDeltaNet(config.hidden_size, self.config.delta, config.norm_eps)
        elif self.config.mixer is Mixer.LATENT:
            self.mixer = LatentAttention(config, index)
        else:
            self.mixer = SoftmaxAttention(config, index)
        self.mlp_norm = norm(config.input_norms)
        self.mlp_out_norm = norm(config.output_norms)
        self.weights_stay = False  # where they are, and as they are
        self.mlp: nn.Module
        if config.has_experts(index):
            self.mlp = ExpertsMLP(config)
        else:
            self.mlp = DenseMLP(config.hidden_size, config.dense_size(index), config.activation)

    @cached_property
    def native(self) -> NativeLayer | None:
        """To be asked for once the weights stay."""
        return NativeLayer.of(self)

    def forward(self, hidden: Tensor, state: StepState, start: int | Tensor) -> Tensor:
        if (found := native_forward(self, hidden, state, start)) is not None:
            return found
        normed = hidden if self.mixer_norm is None else self.mixer_norm(hidden)
        mixed = self.mixer(normed, state, start)
        if self.mixer_out_norm is not None:
            mixed = self.mixer_out_norm(mixed)
        skip = normed if self.postnorm else hidden
        if self.mlp_norm is None:
            hidden = normed = self._add(skip, mixed, self.config.attention)
        else:
            hidden, normed = self.mlp_norm.of_sum(skip, mixed, self.config.attention)
        passed = self.mlp(normed)
        if self.mlp_out_norm is not None:
            passed = self.mlp_out_norm(passed)
        return self._add(normed if self.postnorm else hidden, passed, self.config.mlp)

    @staticmethod
    def _add(skip: Tensor, block: Tensor, residual: Residual) -> Tensor:
        if residual.alpha != 1.0:
            skip = residual.alpha * skip
        return torch.add(skip, block, alpha=residual.beta)


class Head(nn.Module):
    """The matrix [vocab, D] from hidden states to scores: its own, or the embedding's."""

    def __init__(self, config: ModelConfig, embed: nn.Embedding) -> None:
        super().__init__()
        own = torch.empty(config.vocab_size, config.hidden_size)
        self.weight: Tensor = embed.weight if config.tied_embeddings else nn.Parameter(own)


class Model(nn.Module):
    """A decoder. Parameters are uninitialised until `weights.load` fills them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.block_dtype = torch.float32  # what matmuls with a GGUF file's blocks run in
        form_of, is_tied = config.quantization.form_of, config.tied_embeddings
        self._embeds_blocks = form_of("embed.weight") is Form.BLOCKS
        head = "embed.weight" if is_tied else "head.weight"
        self._head_is_blocks = form_of(head) is Form.BLOCKS
        # Drawing numbers where there is no data makes torch load its compiler: two seconds.
        rows = torch.empty(config.vocab_size, config.hidden_size)
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size, _weight=rows)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.head = Head(config, self.embed)

    @property
    def device(self) -> torch.device:
        """Where token ids are looked up."""
        weight: Tensor | GgmlWeight = self.embed.weight
        return (weight if isinstance(weight, Tensor) else weight.packed).device

    @property
    def is_streamed(self) -> bool:
        """Whether each pass over `layers` reads their weights again, so that passes must be few."""
        return False

    @property
    def is_staged(self) -> bool:
        """Whether its layers lie on several devices; see engine/staged/pipeline.py."""
        return False

    def device_of(self, layer: int) -> torch.device:  # noqa: ARG002 (all lie together)
        return self.device

    @property
    def head_device(self) -> torch.device:
        """Where the last layer's hidden states and logits are."""
        return self.norm.weight.device

    def each_layer(self, num_calls: int, first: int = 0) -> Iterator[nn.Module]:  # noqa: ARG002
        """The layers from `first` on, each to be called `num_calls` times before the next is taken.

        Streamed layers ask for that number.
        """
        return islice(self.layers, first, None)

    def reserve(self, num_bytes: int, *, at_any_cost: bool = False) -> bool:  # noqa: ARG002
        """Makes room for so many bytes in all beside what was planned, until the next call; False
        where it cannot, or would pay for it with reading weights more than once in a pass. Resident
        weights leave what room there is."""
        return True

    def activations(self, num_tokens: int) -> Activations:
        """Where the hidden states of so many tokens are kept between two layers."""
        return Activations(num_tokens, self.config.hidden_size, self.dtype)

    def empty_states(
        self,
        *,
        differentiable: bool = False,
        num_sequences: int = 1,
        kv_dtype: torch.dtype | None = None,
    ) -> list[LayerState]:
        """One state per layer before the first token; gradients reach past chunks if asked for.

        `kv_dtype` is what keys and values are kept in: that of the activations by default, or
        torch.int8, which takes half of bfloat16's bytes and is not differentiable.
        """
        return [
            self._empty_state(index, differentiable, num_sequences, kv_dtype or self.dtype)
            for index in range(self.config.num_layers)
        ]

    def _empty_state(
        self, index: int, differentiable: bool, num_sequences: int, kv_dtype: torch.dtype
    ) -> LayerState:
        config, layer, device = self.config, self.config.layers[index], self.device_of(index)
        if layer.mixer is Mixer.LIGHTNING:
            return LightningState.empty(config, device, num_sequences)
        if layer.mixer is Mixer.DELTA:
            return DeltaState.empty(layer.delta, self.dtype, device, num_sequences)
        if layer.mixer is Mixer.LATENT:
            if differentiable:
                raise ValueError("latent attention keeps no gradients: it cannot be trained here")
            return LatentCache(num_sequences, layer.latent.row_size, kv_dtype, device)
        if layer.softmax.sliding_window:
            window = WindowCache.empty(config, layer.softmax, self.dtype, device, num_sequences)
            window.implementation = DifferentiableKV.implementation if differentiable else None
            return window
        if layer.softmax.sparse is not None and not differentiable:
            heads, stride = num_sequences * config.num_kv_heads, layer.softmax.sparse.stride
            return SparseCache(heads, config.head_dim, kv_dtype, device, stride=stride)
        kv = DifferentiableKV if differentiable else KVCache
        return kv.empty(config, kv_dtype, device, num_sequences)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype activations and KV have between layers: that of a plain embedding."""
        return self.block_dtype if self._embeds_blocks else self.embed.weight.dtype

    def forward(
        self, token_ids: Tensor, states: Sequence[StepState], start: int | Tensor
    ) -> Tensor:
        """Hidden states [T, D] after the last layer; every state moves on by T tokens.

        `token_ids` [T] int64 stand at positions start .. start + T - 1. Of [T, B] each column is a
        sequence of its own, and so it is in the hidden states [T, B, D].
        """
        hidden = self.embedded(token_ids)
        for layer, state in zip(self.layers, states, strict=True):
            hidden = layer(hidden, state, start)
        return hidden

    def embedded(self, token_ids: Tensor) -> Tensor:
        """Hidden states [..., D] before the first layer."""
        weight: Tensor | GgmlWeight = self.embed.weight
        if isinstance(weight, Tensor):
            hidden = F.embedding(token_ids, weight)
        else:
            hidden = kernels.embedding(token_ids, weight)
        hidden = hidden.to(self.dtype)
        scale = self.config.embed_scale
        return hidden if scale == 1.0 else hidden * scale

    def with_options(self, config: ModelConfig) -> "Model":
        """A model of the same weights, not copied, that runs by `config`, which differs from this
        one's in options of softmax layers only. For models that are neither streamed nor staged."""
        twin = _shallow(self)
        twin.config = config
        twin.layers = nn.ModuleList(
            _with_options(layer, one) for layer, one in zip(self.layers, config.layers, strict=True)
        )
        return twin

    def logits(self, hidden: Tensor) -> Tensor:
        """float32 scores [..., vocab] of the next token after each row of `hidden` [..., D]."""
        with torch.autocast(hidden.device.type, enabled=False):
            weight = self.head.weight
            is_plain = isinstance(weight, Tensor) and not self._head_is_blocks
            scored = weight.float() if is_plain else weight
            logits = kernels.linear(self.norm(hidden).float(), scored)
            scale = self.config.logit_scale
            return logits if scale == 1.0 else logits * scale

    def prepare_for_inference(self, *, small_m: bool = False) -> None:
        """Trades training for speed, once the weights are in place.

        The head becomes a float32 matrix of its own, and matrices take the layout that matmuls
        are fastest with on this device; quantised ones are no parameters and stay as they are. For
        `small_m` see `kernels.prepack`.
        """
        self.requires_grad_(False)
        for layer in self.layers:
            assert isinstance(layer, Layer)
            layer.weights_stay = not self.is_streamed
        if not self._head_is_blocks:
            _set(self.head, "weight", kernels.prepack(self.head.weight.float(), small_m=small_m))
        for module in self.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                if name in MATRICES:
                    _set(module, name, kernels.prepack(parameter, small_m=small_m))

    def suppressed_ids(self) -> Tensor:
        """Mask [vocab] of ids whose embedding row is all zero: never trained, never to be sampled.

        Sampling one makes words lose letters.
        """
        weight: Tensor | GgmlWeight = self.embed.weight
        if isinstance(weight, Tensor):
            return (weight == 0).all(dim=1)
        # Most rows tell by their first block; the others are few.
        first = replace(weight, packed=weight.packed[:, : weight.type.num_bytes])
        is_zero = (first.dequantize() == 0).all(dim=1)
        ids = is_zero.nonzero().flatten()
        is_zero[ids] = (kernels.embedding(ids, weight) == 0).all(dim=1)
        return is_zero


M = TypeVar("M", bound=nn.Module)


def _shallow(module: M) -> M:
    twin = copy(module)
    twin._modules = dict(module._modules)
    return twin


def _with_options(layer: nn.Module, config: LayerConfig) -> nn.Module:
    twin = _shallow(layer)
    assert isinstance(twin, Layer)
    twin.config = config
    vars(twin).pop("native", None)  # of the layer's own options
    if isinstance(twin.mixer, SoftmaxAttention):
        twin.mixer = _shallow(twin.mixer)
        twin.mixer.options = config.softmax
    return twin


def _set(module: nn.Module, name: str, weight: Tensor | kernels.PackedWeight) -> None:
    if isinstance(weight, Tensor):
        setattr(module, name, nn.Parameter(weight, requires_grad=False))
    else:  # no parameter, but it stands where one stood
        delattr(module, name)
        setattr(module, name, weight)
