"""How much a run computes, in floating-point operations: a multiplication, or an addition."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from engine.config import LayerConfig, Mixer, ModelConfig
from engine.placement.weight_bytes import Shape, is_matrix
from kernels.lightning.chunked import BLOCK_TOKENS


@dataclass(frozen=True, slots=True)
class Flops:
    """`dense`: products with weights every token meets; `experts`: with those it is routed to;
    `lightning`: linear attention; `softmax`: attention that grows with the square of the length."""

    dense: int
    experts: int
    lightning: int
    softmax: int

    @property
    def products(self) -> int:
        """What runs as products with weights."""
        return self.dense + self.experts

    @property
    def attention(self) -> int:
        return self.lightning + self.softmax

    @property
    def total(self) -> int:
        return self.products + self.attention


def prefill(config: ModelConfig, found: Mapping[str, Shape], num_tokens: int) -> Flops:
    """Of reading `num_tokens`; `found` are the parameters' shapes. The head runs for one token."""
    dense, experts = _weights(config, found)
    blocks = 4 * BLOCK_TOKENS + 4 * config.head_dim
    softmax = sum(_seen_by_all(kind, num_tokens) for kind in config.layers)
    return Flops(
        dense * num_tokens + _head(config),
        experts * num_tokens,
        config.count(Mixer.LIGHTNING) * num_tokens * config.attention_size * blocks,
        4 * config.attention_size * softmax,
    )


def next_token(config: ModelConfig, found: Mapping[str, Shape], num_tokens: int) -> Flops:
    """Of one token after `num_tokens`."""
    dense, experts = _weights(config, found)
    softmax = sum(_seen(kind, num_tokens + 1) for kind in config.layers)
    return Flops(
        dense + _head(config),
        experts,
        config.count(Mixer.LIGHTNING) * config.attention_size * 4 * config.head_dim,
        4 * config.attention_size * softmax,
    )


def of_layer(config: ModelConfig, kind: LayerConfig, num_tokens: int) -> float:
    """Of one layer for one token, the mean over a prefill of `num_tokens`."""
    width, heads = config.hidden_size, config.attention_size
    mlp = 3 * width * (config.mlp_size * max(config.num_experts_per_token, 1))
    mlp += 3 * width * config.shared_mlp_size
    if kind.mixer is Mixer.LIGHTNING:
        # q, k, v, gate, out; then k^T v and q S of each head.
        return 2.0 * (5 * width * heads + mlp + 2 * heads * config.head_dim)
    keys = _seen_by_all(kind, num_tokens) / max(num_tokens, 1)
    matrices = 2 + kind.softmax.output_gate + 2 * config.num_kv_heads / config.num_heads
    return 2.0 * (matrices * width * heads + mlp + 2 * heads * keys)


def _weights(config: ModelConfig, found: Mapping[str, Shape]) -> tuple[int, int]:
    """Per token: of the dense matrices and of the experts it is routed to."""
    dense = experts = 0
    for name, shape in found.items():
        if not (is_matrix(name) or name.endswith(("router", "shared_coefficient"))):
            continue
        if len(shape) == 3:
            experts += 2 * prod(shape[1:]) * config.num_experts_per_token
        else:
            dense += 2 * prod(shape)
    return dense, experts


def _head(config: ModelConfig) -> int:
    return 2 * config.vocab_size * config.hidden_size


def _seen(kind: LayerConfig, num_tokens: int) -> int:
    """Keys that the last of `num_tokens` looks at."""
    if kind.mixer is Mixer.LIGHTNING:
        return 0
    window = kind.softmax.window_tokens
    return min(num_tokens, window + kind.softmax.sink_tokens) if window else num_tokens


def _seen_by_all(kind: LayerConfig, num_tokens: int) -> int:
    """Keys that all of `num_tokens` look at, each at those before it and itself."""
    most = _seen(kind, num_tokens)
    return most * (most + 1) // 2 + (num_tokens - most) * most
