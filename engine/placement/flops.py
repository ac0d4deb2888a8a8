"""How much a run computes, in floating-point operations: a multiplication, or an addition."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Self

from engine.config import DeltaOptions, LayerConfig, Mixer, ModelConfig, SoftmaxOptions
from engine.placement.weight_bytes import is_matrix, shapes
from kernels.delta.chunked import BLOCK_TOKENS as DELTA_BLOCK_TOKENS
from kernels.lightning.chunked import BLOCK_TOKENS


@dataclass(frozen=True, slots=True)
class Flops:
    """`dense`: matmuls with weights every token meets; `experts`: with those it is routed to;
    `lightning`: linear attention; `softmax`: attention over all keys, or over a window's."""

    dense: int = 0
    experts: int = 0
    lightning: int = 0
    softmax: int = 0

    def __add__(self, other: Self) -> "Flops":
        return Flops(
            self.dense + other.dense,
            self.experts + other.experts,
            self.lightning + other.lightning,
            self.softmax + other.softmax,
        )

    @property
    def matmuls(self) -> int:
        """What runs as matmuls with weights."""
        return self.dense + self.experts

    @property
    def attention(self) -> int:
        return self.lightning + self.softmax

    @property
    def total(self) -> int:
        return self.matmuls + self.attention


def of_model(
    config: ModelConfig, num_tokens: int, *, before: int = 0, num_scored: int = 1
) -> Flops:
    """The forward of `num_tokens` after `before`, with logits for `num_scored` of them."""
    head = Flops(dense=2 * config.vocab_size * config.hidden_size * num_scored)
    return sum(of_layers(config, num_tokens, before), head)


def of_layers(config: ModelConfig, num_tokens: int, before: int = 0) -> list[Flops]:
    """As `of_model`, of each layer."""
    weights = _weights(config)
    layers = []
    for index in range(config.num_layers):
        dense, experts = weights[f"layers.{index}.mlp"]
        mlp = Flops(num_tokens * dense, num_tokens * experts)
        layers.append(_of_mixer(config, weights, index, num_tokens, before) + mlp)
    return layers


def of_mixer(config: ModelConfig, index: int, num_tokens: int, before: int = 0) -> Flops:
    """As `of_model`, of one layer's mixer."""
    return _of_mixer(config, _weights(config), index, num_tokens, before)


# What every token is multiplied with beside the matrices that may be stored in few bits.
_PLAIN_MATRICES = ("router", "shared_coefficient", ".ba", ".kv_b")
Weights = Mapping[str, tuple[int, int]]  # FLOPs of a token with "layers.N.mixer": dense, experts


def _of_mixer(
    config: ModelConfig, weights: Weights, index: int, num_tokens: int, before: int
) -> Flops:
    dense, experts = weights[f"layers.{index}.mixer"]
    matmuls = Flops(num_tokens * dense, num_tokens * experts)
    kind = config.layers[index]
    if kind.mixer is Mixer.LIGHTNING:
        # Inside a block all keys at once, of which a token by itself has none; then the state.
        block = min(BLOCK_TOKENS, num_tokens) if num_tokens > 1 else 0
        per_token = 4 * config.attention_size * (block + config.head_dim)
        return matmuls + Flops(lightning=num_tokens * per_token)
    if kind.mixer is Mixer.DELTA:
        return matmuls + Flops(lightning=num_tokens * _delta_per_token(kind.delta, num_tokens))
    if kind.mixer is Mixer.LATENT:
        # Queries with rows, and what of the rows is read, as if it were whole rows.
        per_pair = 4 * config.num_heads * kind.latent.row_size
        pairs = _num_pairs(kind, before + num_tokens) - _num_pairs(kind, before)
        return matmuls + Flops(softmax=per_pair * pairs)
    pairs = _num_pairs(kind, before + num_tokens) - _num_pairs(kind, before)
    scored = _num_scored(kind.softmax, before + num_tokens) - _num_scored(kind.softmax, before)
    return matmuls + Flops(softmax=config.attention_size * (4 * pairs + 2 * scored))


def _delta_per_token(options: DeltaOptions, num_tokens: int) -> int:
    """Keys and queries with a block's keys, the triangular system, its result weighed; the state
    read twice and written; the convolution."""
    block = min(DELTA_BLOCK_TOKENS, num_tokens) if num_tokens > 1 else 0
    key_dim, value_dim = options.key_dim, options.value_dim
    per_head = block * (4 * key_dim + 3 * value_dim) + 6 * key_dim * value_dim
    return options.num_value_heads * per_head + 2 * options.taps * options.num_channels


def _weights(config: ModelConfig) -> Weights:
    found: dict[str, tuple[int, int]] = {}
    for name, shape in shapes(config).items():
        part = ".".join(name.split(".")[:3])
        dense, experts = found.get(part, (0, 0))
        if len(shape) == 3:
            experts += 2 * prod(shape[1:]) * config.num_experts_per_token
        elif is_matrix(name) or name.endswith(_PLAIN_MATRICES):
            dense += 2 * prod(shape)
        found[part] = (dense, experts)
    return found


def _num_scored(options: SoftmaxOptions, num_tokens: int) -> int:
    """Queries times the sums of keys by which they choose blocks."""
    if options.sparse is None or num_tokens < options.sparse.dense_tokens:
        return 0
    all_pairs, dense_pairs = (
        count * (count + 1) // 2 for count in (num_tokens, options.sparse.dense_tokens - 1)
    )
    return (all_pairs - dense_pairs) // options.sparse.stride


def _num_pairs(kind: LayerConfig, num_tokens: int) -> int:
    """Queries times keys: each token sees itself and those before it, of a window at most its
    tokens and the sinks."""
    window, sparse = kind.softmax.window_tokens, kind.softmax.sparse
    if sparse is not None:
        most = sparse.most_blocks * sparse.block_tokens
        dense = min(num_tokens, max(sparse.dense_tokens - 1, most))
        return dense * (dense + 1) // 2 + (num_tokens - dense) * most
    most = min(num_tokens, window + kind.softmax.sink_tokens) if window else num_tokens
    return most * (most + 1) // 2 + (num_tokens - most) * most
