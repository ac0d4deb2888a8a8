"""Which layers of few rows are one native call: the one place that says so.

All others, and all rows where one cannot be, go op by op.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from engine.config import SoftmaxOptions
from engine.layers.kv_cache import KVCache
from engine.layers.mlp import DenseMLP
from engine.layers.rotary import rotation
from engine.layers.softmax import SoftmaxAttention
from kernels import decoder_layer, gradients
from kernels.decoder_layer import DecoderLayer, DecoderWeights

if TYPE_CHECKING:
    from engine.model import Layer


_KV = (torch.float32, torch.int8)


def native_forward(
    layer: "Layer", hidden: Tensor, state: object, start: int | Tensor
) -> Tensor | None:
    """What `layer` gives few tokens of one sequence [T, D], and `state` moves on; None where they
    go op by op."""
    if not layer.weights_stay or type(state) is not KVCache or not isinstance(start, int):
        return None
    is_few = hidden.dim() == 2 and 0 < hidden.shape[0] <= decoder_layer.MOST_ROWS
    is_plain = hidden.is_cpu and hidden.dtype == torch.float32 and not gradients.wanted(hidden)
    is_known = state.dtype in _KV and state.attention_received is None and state.queries is None
    if not (is_few and is_plain and is_known and state.fits(hidden.shape[0])):
        return None
    if layer.native is None:
        return None
    return layer.native(hidden, state, start)


class NativeLayer:
    """A layer whose weights stay where they are."""

    def __init__(
        self, weights: DecoderWeights, frequencies: tuple[float, ...], factor: float
    ) -> None:
        self._layer = DecoderLayer(weights)
        self._frequencies, self._factor = frequencies, factor

    @classmethod
    def of(cls, layer: "Layer") -> "NativeLayer | None":
        """None where the layer, or a weight of it, is not served."""
        weights, mixer = _weights(layer), layer.mixer
        if weights is None or not decoder_layer.is_usable(weights):
            return None
        assert isinstance(mixer, SoftmaxAttention)
        return cls(weights, mixer.rotary_frequencies, mixer.options.attention_factor)

    def __call__(self, hidden: Tensor, state: KVCache, start: int) -> Tensor:
        turns = None
        if self._frequencies:
            turns = rotation(self._frequencies, start, len(hidden), hidden.device, self._factor)
        return self._layer(hidden, turns, *state.extended(len(hidden)))


def _weights(layer: "Layer") -> DecoderWeights | None:
    """None where there is more to the layer than they say."""
    mixer, mlp = layer.mixer, layer.mlp
    if not (isinstance(mixer, SoftmaxAttention) and isinstance(mlp, DenseMLP) and mlp.is_swiglu):
        return None
    plain = SoftmaxOptions()
    known = replace(
        mixer.options, rotary_frequencies=None, attention_factor=1.0, scale=None, qkv_bias=False
    )
    mixer_norm, mlp_norm = layer.mixer_norm, layer.mlp_norm
    has_output_norm = layer.mixer_out_norm is not None or layer.mlp_out_norm is not None
    if known != plain or mixer_norm is None or mlp_norm is None:
        return None
    if has_output_norm or layer.postnorm:
        return None
    attention, mlp_residual = layer.config.attention, layer.config.mlp
    return DecoderWeights(
        mixer_norm=mixer_norm.weight,
        qkv=mixer.qkv,
        qkv_bias=mixer.qkv_bias if mixer.options.qkv_bias else None,
        out=mixer.out,
        mlp_norm=mlp_norm.weight,
        gate_up=mlp.gate_up,
        down=mlp.down,
        eps=mixer_norm.eps,
        heads=mixer.heads[:2],
        head_dim=mixer.head_dim,
        rotary_dim=2 * len(mixer.rotary_frequencies),
        scale=mixer.scale,
        attention_residual=(attention.alpha, attention.beta),
        mlp_residual=(mlp_residual.alpha, mlp_residual.beta),
    )
