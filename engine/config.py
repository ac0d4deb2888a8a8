"""What a model is, whatever checkpoint family it came from. Validated here and nowhere else."""

from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING

from engine.errors import ConfigError
from engine.quantized.forms import UNQUANTIZED, Quantization

if TYPE_CHECKING:
    from engine.selection import Selection


class Mixer(StrEnum):
    """How a layer moves information between positions."""

    LIGHTNING = "lightning"
    SOFTMAX = "softmax"
    DELTA = "delta"
    LATENT = "latent"


class QkNorm(StrEnum):
    """What RMSNorm q and k pass before rotation: none, over each head, or over all heads."""

    NONE = "none"
    HEAD = "head"
    FULL = "full"


class Activation(StrEnum):
    """Of the MLP's gate."""

    SILU = "silu"
    GELU_TANH = "gelu_tanh"


class SharedExpert(StrEnum):
    """How the shared expert's output s joins the routed r, g being sigmoid(coefficient x).

    BLEND is (1 - g) r + g s, as in MiniMax-Text-01; GATED is r + g s, as in Qwen3-Next; PLAIN is
    r + s, without a coefficient, as in DeepSeek's and Ling's.
    """

    BLEND = "blend"
    GATED = "gated"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class SigmoidRouter:
    """Scores are sigmoids, each by itself (DeepSeek-V3, arXiv 2412.19437, eq. 12-16).

    Experts are chosen by score plus a bias of their own (`has_bias`), from the `kept_groups` of
    `num_groups` equal groups whose two best choices are worth most; their weights are the scores,
    without bias, divided by their sum, times `scale`.
    """

    num_groups: int = 1
    kept_groups: int = 1
    scale: float = 1.0
    has_bias: bool = True


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


_LARGEST_DELTA = {
    "num_key_heads": 2**16,
    "num_value_heads": 2**16,
    "key_dim": 2**16,
    "value_dim": 2**16,
    "taps": 64,
}


@dataclass(frozen=True, slots=True)
class Residual:
    """h = alpha * skip + beta * block(norm(h))."""

    alpha: float = 1.0
    beta: float = 1.0


@dataclass(frozen=True, slots=True)
class LightningOptions:
    """What varies between published Lightning layers; the defaults are MiniMax-M1's.

    In order: silu on q, k and v (`silu`); RMSNorm with weight on q and k of each head (`qk_norm`);
    rotation of q and k by `rotary_frequencies` (none if empty), cosines and sines times
    `attention_factor` (YaRN); q times `scale`. `slopes` are the decays of the heads in nats per
    token; if empty they are ALiBi's, times the layer factor if `slope_layer_factor`, that of the
    layer `slope_layer_offset` further on. The output norm runs in `norm_groups` groups of channels.
    The projected rows stand head by head, each [q|k|v], or `by_kind`: all heads' q, then k, then v.
    """

    silu: bool = True
    qk_norm: bool = False
    rotary_frequencies: tuple[float, ...] = ()
    attention_factor: float = 1.0
    scale: float = 1.0
    slopes: tuple[float, ...] = ()
    slope_layer_factor: bool = True
    slope_layer_offset: int = 0
    norm_groups: int = 1
    by_kind: bool = False


@dataclass(frozen=True, slots=True)
class SparseOptions:
    """A query reads chosen blocks of keys once it has `dense_tokens` with itself, and all before
    (InfLLM-V2, arXiv 2509.24663): one rule by position, however a context was grown.

    Blocks are 4 strides of `stride` tokens. `num_blocks` are read beside the last `window_tokens`
    of whole blocks, the query's own block and the first `first_blocks` among them; see
    `kernels.choose_blocks`.
    """

    stride: int = 16
    num_blocks: int = 64
    window_tokens: int = 2048
    first_blocks: int = 1
    dense_tokens: int = 8192

    @property
    def block_tokens(self) -> int:
        return 4 * self.stride

    @property
    def most_blocks(self) -> int:
        """That a query reads."""
        return self.num_blocks + self.window_tokens // self.block_tokens

    @property
    def near_blocks(self) -> int:
        """That it reads whatever is in them, its own included."""
        return self.window_tokens // self.block_tokens + 1


@dataclass(frozen=True, slots=True)
class SoftmaxOptions:
    """What varies between softmax layers; the defaults are those of MiniMax-M1 and Llama.

    `rotary_frequencies` None takes the model's, () rotates nothing; cosines and sines are times
    `attention_factor` (YaRN, arXiv 2309.00071, section 3.4). q and k pass `qk_norm` first. Scores
    are times `scale`, None being 1 / sqrt(head_dim). `qkv_bias` and `out_bias` are added to the
    projections. With `output_gate` the heads' output is multiplied by sigmoid(gate x); with
    `gate_in_q` as well, the gate's rows stand among those of q, head by head.

    With `window_tokens` > 0 a document token sees that many tokens, itself included, and the first
    `sink_tokens`; question and answer tokens see everything (see `Context.end_of_documents`). With
    `sliding_window` they see no more than document tokens do, and the layer's state is of constant
    size. With `log_scale_base` a > 0, q at position p is multiplied by
    log(max(p - n, 0) + a) / log(a), n being `log_scale_from_tokens`: 1 up to there, growing without
    a jump (arXiv 2601.22156, with n = 0).

    Past position `sink_distance` > 0 sinks are seen as if that far away; with `selected_distance`
    > 0 question and answer do not see everything, but what was selected, as if that far away (see
    engine/selection.py). With `sparse` queries choose blocks of their own.
    """

    rotary_frequencies: tuple[float, ...] | None = None
    attention_factor: float = 1.0
    qk_norm: QkNorm = QkNorm.NONE
    scale: float | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    output_gate: bool = False
    gate_in_q: bool = False
    window_tokens: int = 0
    sink_tokens: int = 0
    sliding_window: bool = False
    log_scale_base: float = 0.0
    log_scale_from_tokens: int = 0
    sink_distance: int = 0
    selected_distance: int = 0
    sparse: SparseOptions | None = None


@dataclass(frozen=True, slots=True)
class DeltaOptions:
    """Sizes of a gated delta layer (Gated DeltaNet, arXiv 2412.06464).

    Each of `num_key_heads` queries and keys of `key_dim` serves as many neighbours of
    `num_value_heads` values of `value_dim`. `taps` is what the short convolution spans, in tokens.
    With `interleaved` the projected rows stand key head by key head, each [q|k|v|z] and [b|a];
    otherwise all heads' q first, and so on. With `tiled` values are not grouped by the key they
    share, but value v's key is v modulo `num_key_heads`, as llama.cpp stores them.
    """

    num_key_heads: int = 1
    num_value_heads: int = 1
    key_dim: int = 1
    value_dim: int = 1
    taps: int = 4
    interleaved: bool = False
    tiled: bool = False

    @property
    def key_size(self) -> int:
        """Width of all heads' keys together."""
        return self.num_key_heads * self.key_dim

    @property
    def value_size(self) -> int:
        """Width of all heads' values together."""
        return self.num_value_heads * self.value_dim

    @property
    def num_channels(self) -> int:
        """Width of what the convolution runs over: all queries, keys and values."""
        return 2 * self.key_size + self.value_size


_LARGEST_LATENT = {
    "kv_rank": 2**16,
    "nope_dim": 2**16,
    "rope_dim": 2**16,
    "value_dim": 2**16,
}


@dataclass(frozen=True, slots=True)
class LatentOptions:
    """Sizes of multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1).

    Of a token a normed latent of `kv_rank` numbers is kept, and a key of `rope_dim` that all heads
    share and that `rotary_frequencies` turn, cosines and sines times `attention_factor`. A head's
    query is `nope_dim` numbers that meet the latent and `rope_dim` that meet that key; it reads
    `value_dim`. Queries pass a normed latent of `q_rank`, if that is not 0. Scores are times
    `scale`. With `interleaved` the pairs that turn are (2i, 2i + 1) and not (i, i + rope_dim / 2).
    """

    kv_rank: int = 1
    nope_dim: int = 1
    rope_dim: int = 1
    value_dim: int = 1
    q_rank: int = 0
    rotary_frequencies: tuple[float, ...] = ()
    attention_factor: float = 1.0
    interleaved: bool = True
    scale: float = 1.0
    norm_eps: float = 1e-6

    @property
    def key_dim(self) -> int:
        """Of a head's query, and of the key it would meet if keys were projected."""
        return self.nope_dim + self.rope_dim

    @property
    def row_size(self) -> int:
        """Numbers kept of a token."""
        return self.kv_rank + self.rope_dim


@dataclass(frozen=True, slots=True)
class LayerConfig:
    """One layer; of the options of mixers only those of its own count.

    `dense_mlp_size` > 0 is a dense MLP of that width in a layer of a model with experts.
    """

    mixer: Mixer
    attention: Residual = Residual()
    mlp: Residual = Residual()
    lightning: LightningOptions = LightningOptions()
    softmax: SoftmaxOptions = SoftmaxOptions()
    delta: DeltaOptions = DeltaOptions()
    latent: LatentOptions = LatentOptions()
    dense_mlp_size: int = 0

    @property
    def has_full_kv(self) -> bool:
        """Whether the layer keeps a row of every token: its state grows with the context."""
        if self.mixer is Mixer.LATENT:
            return True
        return self.mixer is Mixer.SOFTMAX and not self.softmax.sliding_window


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Shapes and constants of a decoder. Raises ConfigError if they cannot be a model.

    `rotary_frequencies` are the inverse frequencies (radians per position) of the rotated pairs;
    two dimensions of each head turn per entry, the rest pass unrotated. With `postnorm` the skip
    connection carries the normed input. Mixer and MLP read a normed input (`input_norms`), and what
    they give is normed before it is added (`output_norms`); every norm's weight is `norm_offset`
    more than the checkpoint's. Embeddings are times `embed_scale`, logits times `logit_scale`.
    `num_experts` 0 is one dense MLP of `mlp_size`, gated by `activation`; the weights of the chosen
    experts sum to 1 if `normalize_router`; `sigmoid_router` says how else they are found.
    `max_positions` is the length the model was trained for. `quantization` says which weights the
    checkpoint holds in few bits. With `selection` the question selects what is seen of documents.
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
    shared_expert: SharedExpert = SharedExpert.BLEND
    normalize_router: bool = True
    sigmoid_router: SigmoidRouter | None = None
    activation: Activation = Activation.SILU
    input_norms: bool = True
    output_norms: bool = False
    norm_offset: float = 0.0
    embed_scale: float = 1.0
    logit_scale: float = 1.0
    norm_eps: float = 1e-5
    lightning_norm_eps: float = 1e-6
    postnorm: bool = False
    tied_embeddings: bool = False
    max_positions: int = 0
    eos_ids: tuple[int, ...] = ()
    quantization: Quantization = UNQUANTIZED
    selection: "Selection | None" = None

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
        self._check_rotary(self.rotary_frequencies)
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
        if self.sigmoid_router is not None:
            self._check_router(self.sigmoid_router)
        for name in ("embed_scale", "logit_scale"):
            if not 0 < abs(getattr(self, name)) < inf:
                raise ConfigError(f"config: {name} is {getattr(self, name):.9g}")
        if not (self.norm_eps >= 0 and self.lightning_norm_eps >= 0):
            raise ConfigError("config: norm eps must not be negative")
        for layer in set(self.layers):
            if not 0 <= layer.dense_mlp_size <= _LARGEST["mlp_size"]:
                raise ConfigError(f"config: a dense MLP of {layer.dense_mlp_size:.9g}")
            if layer.mixer is Mixer.LIGHTNING:
                self._check_lightning(layer.lightning)
            elif layer.mixer is Mixer.DELTA:
                self._check_delta(layer.delta)
            elif layer.mixer is Mixer.LATENT:
                self._check_latent(layer.latent)
            else:
                self._check_softmax(layer.softmax)

    def _check_router(self, router: SigmoidRouter) -> None:
        groups, kept, count = router.num_groups, router.kept_groups, self.num_experts
        if not 0 < kept <= groups <= max(count, 1) or count % groups:
            raise ConfigError(
                f"config: {kept:.9g} of {groups:.9g} groups of {count:.9g} experts to choose from"
            )
        size = count // groups
        if groups > 1 and (size < 2 or kept * size < self.num_experts_per_token):
            raise ConfigError(
                f"config: groups of {size} experts, {kept:.9g} of them for "
                f"{self.num_experts_per_token:.9g} experts per token"
            )
        if not 0 < abs(router.scale) < inf:
            raise ConfigError(f"config: a router scale of {router.scale:.9g}")

    def _check_lightning(self, options: LightningOptions) -> None:
        self._check_rotary(options.rotary_frequencies)
        if options.slopes and len(options.slopes) != self.num_heads:
            raise ConfigError(
                f"config: {len(options.slopes)} slopes for {self.num_heads} heads, one each needed"
            )
        if not all(0 <= slope < inf for slope in options.slopes):
            raise ConfigError("config: slopes must be finite and not negative")
        if not 0 < abs(options.scale) < inf:
            raise ConfigError(f"config: a scale of {options.scale:.9g}, expected a finite one")
        if not 0 < options.attention_factor < inf:
            raise ConfigError(f"config: an attention factor of {options.attention_factor:.9g}")
        if options.slope_layer_offset not in (0, -1):  # others would let a state grow
            raise ConfigError(
                f"config: a slope_layer_offset of {options.slope_layer_offset:.9g}, not 0 or -1"
            )
        if options.norm_groups < 1 or self.attention_size % options.norm_groups:
            raise ConfigError(
                f"config: {self.attention_size} channels do not divide into "
                f"{options.norm_groups:.9g} norm groups"
            )

    @staticmethod
    def _check_delta(options: DeltaOptions) -> None:
        for name, largest in _LARGEST_DELTA.items():
            value = getattr(options, name)
            if not 0 < value <= largest:
                raise ConfigError(f"config: {name} is {value:.9g}, expected 1 to {largest:,}")
        if options.num_value_heads % options.num_key_heads:
            raise ConfigError(
                f"config: {options.num_value_heads} value heads of a delta layer do not divide "
                f"into {options.num_key_heads} key heads"
            )

    @staticmethod
    def _check_latent(options: LatentOptions) -> None:
        for name, largest in _LARGEST_LATENT.items():
            value = getattr(options, name)
            if not 0 < value <= largest:
                raise ConfigError(f"config: {name} is {value:.9g}, expected 1 to {largest:,}")
        if not 0 <= options.q_rank <= 2**16:
            raise ConfigError(f"config: q_rank is {options.q_rank:.9g}, expected 0 to 65,536")
        if 2 * len(options.rotary_frequencies) != options.rope_dim:
            raise ConfigError(
                f"config: {len(options.rotary_frequencies)} frequencies turn "
                f"{options.rope_dim} dimensions of a key, all of them needed"
            )
        for what in ("scale", "attention_factor"):
            if not 0 < getattr(options, what) < inf:
                raise ConfigError(f"config: {what} of latent attention is not over 0")

    def _check_softmax(self, options: SoftmaxOptions) -> None:
        self._check_rotary(options.rotary_frequencies or ())
        for name in ("window_tokens", "sink_tokens", "log_scale_from_tokens"):
            value = getattr(options, name)
            if not 0 <= value < 2**31:
                raise ConfigError(f"config: {name} is {value:.9g}, expected 0 to {2**31 - 1:,}")
        for is_set, key in (
            (options.sink_tokens, "sink_tokens"),
            (options.sliding_window, "window_always"),
        ):
            if is_set and not options.window_tokens:
                raise ConfigError(f"config: {key} without window_tokens")
        if options.sparse is not None:
            self._check_sparse(options.sparse)
            if options.window_tokens or options.sink_distance:
                raise ConfigError("config: a layer that chooses blocks has no window beside")
        if options.gate_in_q and not options.output_gate:
            raise ConfigError("config: gate_in_q without output_gate")
        if options.scale is not None and not 0 < abs(options.scale) < inf:
            raise ConfigError(f"config: an attention scale of {options.scale:.9g}")
        if not 0 < options.attention_factor < inf:
            raise ConfigError(f"config: an attention factor of {options.attention_factor:.9g}")
        if options.log_scale_base != 0 and not 1 < options.log_scale_base < inf:
            raise ConfigError(
                f"config: log_scale_base is {options.log_scale_base:.9g}, expected 0 or over 1"
            )

    @staticmethod
    def _check_sparse(options: SparseOptions) -> None:
        for name in ("stride", "num_blocks", "window_tokens", "first_blocks", "dense_tokens"):
            if not 0 < getattr(options, name) < 2**31:
                raise ConfigError(f"config: {name} of the choice of blocks is out of bounds")
        if options.stride & (options.stride - 1) or options.stride > 256:
            raise ConfigError(f"config: a stride of {options.stride:,} is no power of 2 up to 256")
        if options.near_blocks + options.first_blocks > options.most_blocks:
            raise ConfigError("config: more blocks are always read than blocks are read")
        if options.dense_tokens < 8 * options.stride:
            raise ConfigError(
                f"config: blocks are chosen by {8 * options.stride:,} tokens at least, but from "
                f"{options.dense_tokens:,} on"
            )

    def _check_rotary(self, frequencies: tuple[float, ...]) -> None:
        if 2 * len(frequencies) > self.head_dim:
            raise ConfigError(
                f"config: rotary_dim {2 * len(frequencies)} is over head_dim {self.head_dim}"
            )

    def has_experts(self, layer: int) -> bool:
        return self.num_experts > 0 and not self.layers[layer].dense_mlp_size

    def dense_size(self, layer: int) -> int:
        """Width of the MLP of a layer without experts."""
        return self.layers[layer].dense_mlp_size or self.mlp_size

    def frequencies_of(self, layer: int) -> tuple[float, ...]:
        """Of a softmax layer's rotation."""
        own = self.layers[layer].softmax.rotary_frequencies
        return self.rotary_frequencies if own is None else own

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

    @property
    def num_full_kv_layers(self) -> int:
        return sum(layer.has_full_kv for layer in self.layers)

    def count(self, mixer: Mixer) -> int:
        return sum(layer.mixer is mixer for layer in self.layers)
