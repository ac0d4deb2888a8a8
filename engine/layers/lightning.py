"""A Lightning Attention layer: constant-size state, cost linear in length (arXiv 2501.08313)."""

import math
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

import kernels
from engine.config import ModelConfig
from engine.layers.norm import RMSNorm
from engine.layers.rotary import rotation


class LightningState:
    """The sum of decayed k^T v of one layer: [H, D, D] float32, key dimension first."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    @classmethod
    def empty(cls, config: ModelConfig, device: torch.device) -> Self:
        shape = (config.num_heads, config.head_dim, config.head_dim)
        return cls(torch.zeros(shape, dtype=torch.float32, device=device))

    def fork(self) -> "LightningState":
        # Updates replace the tensor and never write into it, so it can be shared.
        return LightningState(self.tensor)

    def tensors(self) -> dict[str, Tensor]:
        """All it is, of constant shape: what `restore` takes."""
        return {"state": self.tensor}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensor = tensors["state"].to(self.tensor.device)

    @property
    def num_bytes(self) -> int:
        return self.tensor.nbytes


def slopes(num_heads: int, layer: int, num_layers: int, layer_factor: bool = True) -> Tensor:
    """Decay per token of each head, [H] float32: steep in early layers, nearly none in the last.

    2^(-8 (h + 1) / H) as in ALiBi (arXiv 2108.12409, with its interleave where H is not a power of
    two), times 1 - layer / (num_layers - 1) + 1e-5 if `layer_factor`. Softmax layers count in
    `layer`.
    """

    def geometric(count: int) -> list[float]:
        return [2.0 ** (-8.0 * (head + 1) / count) for head in range(count)]

    lower = 2 ** math.floor(math.log2(num_heads))
    base = geometric(lower) + geometric(2 * lower)[0::2][: num_heads - lower]
    factor = 1 - layer / max(num_layers - 1, 1) + 1e-5 if layer_factor else 1.0
    return torch.tensor(base, dtype=torch.float32) * factor


class LightningAttention(nn.Module):
    """See `LightningOptions` for what varies."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        size = config.attention_size
        self.options = config.layers[layer].lightning
        self.num_heads = config.num_heads
        self.layer, self.num_layers = layer, config.num_layers
        self._kept_slopes: Tensor | None = None
        self.qkv = nn.Parameter(torch.empty(3 * size, config.hidden_size))
        self.gate = nn.Parameter(torch.empty(size, config.hidden_size))
        self.norm = RMSNorm(size, config.lightning_norm_eps, self.options.norm_groups)
        self.out = nn.Parameter(torch.empty(config.hidden_size, size))
        if self.options.qk_norm:
            self.q_norm = RMSNorm(config.head_dim, config.norm_eps)
            self.k_norm = RMSNorm(config.head_dim, config.norm_eps)

    def forward(self, hidden: Tensor, state: LightningState, start: int) -> Tensor:
        q, k, v = kernels.lightning_inputs(
            kernels.linear(hidden, self.qkv),
            self.num_heads,
            silu=self.options.silu,
            norm=self._qk_norm(),
            turn=self._turn(start, hidden),
            scale=self.options.scale,
        )
        decay = self._slopes_on(hidden.device)
        out, state.tensor = kernels.lightning_attention(q, k, v, decay, state.tensor)
        gate = kernels.linear(hidden, self.gate)
        norm = self.norm
        gated = kernels.lightning_output(out, gate, norm.weight, norm.eps, norm.groups)
        return kernels.linear(gated, self.out)

    def _qk_norm(self) -> tuple[Tensor, Tensor, float] | None:
        if not self.options.qk_norm:
            return None
        return self.q_norm.weight, self.k_norm.weight, self.q_norm.eps

    def _turn(self, start: int, hidden: Tensor) -> tuple[Tensor, Tensor] | None:
        if not self.options.rotary_frequencies:
            return None
        num_tokens, device = hidden.shape[0], hidden.device
        return rotation(self.options.rotary_frequencies, start, num_tokens, device)

    def _slopes_on(self, device: torch.device) -> Tensor:
        """Kept there: a copy to the GPU for every token would wait for it."""
        if self._kept_slopes is None or self._kept_slopes.device != device:
            with torch.inference_mode(False):
                self._kept_slopes = self.slopes().to(device)
        return self._kept_slopes

    def slopes(self) -> Tensor:
        """The decay of each head, [H] float32 on the CPU."""
        if self.options.slopes:
            return torch.tensor(self.options.slopes, dtype=torch.float32)
        factor = self.options.slope_layer_factor
        return slopes(self.num_heads, self.layer, self.num_layers, factor)
