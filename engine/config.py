"""What a model is, whatever checkpoint family it came from. Validated here and nowhere else."""

from dataclasses import dataclass
from enum import StrEnum

from engine.errors import ConfigError


class Mixer(StrEnum):
    """How a layer moves information between positions."""

    LIGHTNING = "lightning"
    SOFTMAX = "softmax"


# Wide enough for any decoder, and so that no product of them overflows 64 bits.
_LARGEST = {
    "vocab_size": 2**24,
    "hidden_size": 2**20,
    "num_heads": 2**16,
    "num_kv_heads": 2**16,
    "head_dim": 2**16,
    "mlp_size": 2**24,
    "max_positions": 2**31 - 1,
}


@dataclass(frozen=True, slots=True)
class Residual:
    """h = alpha * skip + beta * block(norm(h))."""

    alpha: float = 1.0
    beta: float = 1.0


@dataclass(frozen=True, slots=True)
class LayerConfig:
    mixer: Mixer
    attention: Residual = Residual()
    mlp: Residual = Residual()


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Shapes and constants of a decoder. Raises ConfigError if they cannot be a model.

    `rotary_frequencies` are the inverse frequencies (radians per position) of the rotated pairs;
    two dimensions of each head turn per entry, the rest pass unrotated. With `postnorm` the skip
    connection carries the normed input. `num_experts` 0 is one dense SwiGLU of `mlp_size`.
    `max_positions` is the length the model was trained for.
    """

    family: str
    vocab_size: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rotary_frequencies: tuple[float, ...]
    mlp_size: int
    layers: tuple[LayerConfig, ...]
    num_experts: int = 0
    num_experts_per_token: int = 0
    shared_mlp_size: int = 0
    norm_eps: float = 1e-5
    lightning_norm_eps: float = 1e-6
    postnorm: bool = False
    tied_embeddings: bool = False
    max_positions: int = 0
    eos_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, largest in _LARGEST.items():
            value = getattr(self, name)
            if not 0 < value <= largest:
                raise ConfigError(f"config: {name} is {value:.9g}, expected 1 to {largest:,}")
        if not 0 < len(self.layers) <= 1000:
            raise ConfigError(f"config: {len(self.layers)} layers, expected 1 to 1,000")
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(
                f"config: {self.num_heads} heads do not divide into {self.num_kv_heads} KV heads"
            )
        if self.rotary_dim > self.head_dim:
            raise ConfigError(
                f"config: rotary_dim {self.rotary_dim} is over head_dim {self.head_dim}"
            )
        if not 0 <= self.num_experts <= 1024 or self.num_layers * self.num_experts > 2**17:
            raise ConfigError(
                f"config: {self.num_experts:.9g} experts in each of {self.num_layers} layers, "
                "expected 0 to 1,024 and at most 131,072 in all"
            )
        if not 0 <= self.shared_mlp_size <= _LARGEST["mlp_size"]:
            raise ConfigError(f"config: shared MLP size is {self.shared_mlp_size:.9g}")
        if self.num_experts and not 0 < self.num_experts_per_token <= self.num_experts:
            raise ConfigError(
                f"config: {self.num_experts_per_token:.9g} experts per token of {self.num_experts}"
            )
        if not (self.norm_eps >= 0 and self.lightning_norm_eps >= 0):
            raise ConfigError("config: norm eps must not be negative")

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    @property
    def rotary_dim(self) -> int:
        return 2 * len(self.rotary_frequencies)

    @property
    def attention_size(self) -> int:
        """Width of all query heads together; not always `hidden_size`."""
        return self.num_heads * self.head_dim

    def count(self, mixer: Mixer) -> int:
        return sum(layer.mixer is mixer for layer in self.layers)
