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
    """The sum of decayed k^T v of one layer: [B * H, D, D] float32, key dimension first.

    B independent sequences of equal length have their heads one after another; mostly B is 1.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.keeps_last = False  # what `cut` needs of the tokens that are read next
        self._last: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    @classmethod
    def empty(cls, config: ModelConfig, device: torch.device, num_sequences: int = 1) -> Self:
        shape = (num_sequences * config.num_heads, config.head_dim, config.head_dim)
        return cls(torch.zeros(shape, dtype=torch.float32, device=device))

    def fork(self) -> "LightningState":
        # Updates replace the tensor and never write into it, so it can be shared.
        return LightningState(self.tensor)

    def move(self, q: Tensor, k: Tensor, v: Tensor, slopes: Tensor) -> Tensor:
        """Attention of these tokens [T, H, D], by which the state moves on."""
        if self.keeps_last:
            self._last, self.keeps_last = (k, v, slopes, self.tensor), False
        out, self.tensor = kernels.lightning_attention(q, k, v, slopes, self.tensor)
        return out

    def cut(self, num_tokens: int) -> None:
        """Forgets the last `num_tokens` of the tokens that were read when it had to keep them."""
        assert self._last is not None
        (k, v, slopes, before), self._last = self._last, None
        if num_tokens:
            kept = torch.tensor(len(k) - num_tokens, device=k.device)
            self.tensor = kernels.lightning_state(k, v, slopes, before, kept)

    def tensors(self) -> dict[str, Tensor]:
        """All it is, of constant shape: what `restore` takes."""
        return {"state": self.tensor}

    def restore(self, tensors: Mapping[str, Tensor], num_tokens: int) -> None:  # noqa: ARG002
        """As `tensors` gave it after `num_tokens` tokens."""
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
        self.num_heads, self.head_dim = config.num_heads, config.head_dim
        self.layer, self.num_layers = layer, config.num_layers
        self._decays: dict[tuple[torch.device, int], Tensor] = {}
        self.qkv = nn.Parameter(torch.empty(3 * size, config.hidden_size))
        self.gate = nn.Parameter(torch.empty(size, config.hidden_size))
        self.norm = RMSNorm(size, config.lightning_norm_eps, self.options.norm_groups)
        self.out = nn.Parameter(torch.empty(config.hidden_size, size))
        if self.options.qk_norm:
            self.q_norm = RMSNorm(config.head_dim, config.norm_eps)
            self.k_norm = RMSNorm(config.head_dim, config.norm_eps)

    def forward(self, hidden: Tensor, state: LightningState, start: int | Tensor) -> Tensor:
        num_tokens = hidden.shape[0]
        # Sequences beside each other ([T, B, D]) have their heads one after another.
        num_sequences = hidden.shape[1] if hidden.dim() == 3 else 1
        decay = self._decay(hidden.device, num_sequences)
        # Nothing here holds q, k and v, so that they are gone before the gate is there.
        out = state.move(*self._inputs(hidden, start, num_sequences), decay)
        gate = kernels.linear(hidden, self.gate)
        norm = self.norm
        gated = kernels.lightning_output(
            out.reshape(num_tokens * num_sequences, self.num_heads, -1),
            gate.flatten(0, -2),
            norm.weight,
            norm.eps,
            norm.groups,
        )
        return kernels.linear(gated.view(gate.shape), self.out)

    def _inputs(
        self, hidden: Tensor, start: int | Tensor, num_sequences: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        return kernels.lightning_inputs(
            kernels.linear(hidden, self.qkv).flatten(1),
            num_sequences * self.num_heads,
            silu=self.options.silu,
            norm=self._qk_norm(),
            rope=self._turn(start, hidden),
            scale=self.options.scale,
            heads_together=self.num_heads if self.options.by_kind else 1,
        )

    def _qk_norm(self) -> tuple[Tensor, Tensor, float] | None:
        if not self.options.qk_norm:
            return None
        return self.q_norm.weight, self.k_norm.weight, self.q_norm.eps

    def _turn(self, start: int | Tensor, hidden: Tensor) -> tuple[Tensor, Tensor] | None:
        if not self.options.rotary_frequencies:
            return None
        frequencies, factor = self.options.rotary_frequencies, self.options.attention_factor
        return rotation(frequencies, start, hidden.shape[0], hidden.device, factor)

    def _decay(self, device: torch.device, num_sequences: int) -> Tensor:
        """The slopes once for each sequence, made once: a copy to a GPU would wait for it."""
        key = (device, num_sequences)
        if key not in self._decays:
            with torch.inference_mode(False):
                self._decays[key] = self.slopes().to(device).repeat(num_sequences)
        return self._decays[key]

    def slopes(self) -> Tensor:
        """The decay of each head, [H] float32 on the CPU."""
        if self.options.slopes:
            return torch.tensor(self.options.slopes, dtype=torch.float32)
        layer = self.layer + self.options.slope_layer_offset
        return slopes(self.num_heads, layer, self.num_layers, self.options.slope_layer_factor)
