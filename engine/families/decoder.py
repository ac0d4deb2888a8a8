"""What Llama-shaped families share: softmax layers with grouped heads, a gated MLP or experts.

A family's file says what differs; which tensors there are follows from the config it made.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from engine.config import LayerConfig, Mixer, ModelConfig, QkNorm, SoftmaxOptions
from engine.errors import ConfigError
from engine.families import keys
from engine.families.family import Sources
from engine.families.rope import Rope

_MOST_LAYERS = 1000


def num_layers(raw: keys.Raw) -> int:
    """Bounded, so that lists of so many can be made."""
    count = keys.integer(raw, "num_hidden_layers")
    if not 0 < count <= _MOST_LAYERS:
        raise ConfigError(f"config: {count:.9g} layers, expected 1 to {_MOST_LAYERS:,}")
    return count


def head_dim(raw: keys.Raw) -> int:
    num_heads = keys.integer(raw, "num_attention_heads")
    return keys.integer(raw, "head_dim", keys.integer(raw, "hidden_size") // max(num_heads, 1))


def read_config(
    raw: keys.Raw,
    family: str,
    layers: Sequence[LayerConfig],
    rope: Rope,
    *,
    eps: float = 1e-6,
    tied: bool = False,
    **options: Any,  # noqa: ANN401 (fields of ModelConfig)
) -> ModelConfig:
    """A ModelConfig of the keys all these families have, `rope` in every layer without its own.

    `eps` and `tied` are what a file leaves unsaid.
    """
    keys.require(raw, "hidden_act", ("silu",))
    keys.require(raw, "mlp_bias", (False, None))
    num_heads = keys.integer(raw, "num_attention_heads")
    return ModelConfig(
        family=family,
        vocab_size=keys.integer(raw, "vocab_size"),
        hidden_size=keys.integer(raw, "hidden_size"),
        num_heads=num_heads,
        num_kv_heads=keys.integer(raw, "num_key_value_heads", num_heads),
        head_dim=head_dim(raw),
        rotary_frequencies=rope.frequencies,
        layers=tuple(with_factor(layer, rope) for layer in layers),
        norm_eps=keys.number(raw, "rms_norm_eps", eps),
        tied_embeddings=keys.flag(raw, "tie_word_embeddings", tied),
        max_positions=keys.integer(raw, "max_position_embeddings"),
        eos_ids=keys.token_ids(raw, "eos_token_id"),
        **{"mlp_size": keys.integer(raw, "intermediate_size"), **options},
    )


def with_factor(layer: LayerConfig, rope: Rope) -> LayerConfig:
    """`layer` with the attention factor of `rope`, if it takes that of the model."""
    if layer.softmax.rotary_frequencies is not None:
        return layer
    return replace(layer, softmax=replace(layer.softmax, attention_factor=rope.attention_factor))


def softmax_layers(
    raw: keys.Raw, options: SoftmaxOptions, sliding: Sequence[bool] | None = None
) -> tuple[LayerConfig, ...]:
    """As many as the file says, with a window where `sliding` says so; None asks `layer_types`."""
    count = num_layers(raw)
    windows = is_sliding(raw, count) if sliding is None else sliding
    window = replace(options, window_tokens=window_tokens(raw), sliding_window=True)
    return tuple(LayerConfig(Mixer.SOFTMAX, softmax=window if one else options) for one in windows)


def is_sliding(raw: keys.Raw, count: int) -> list[bool]:
    """By `layer_types`, else by `use_sliding_window` and `max_window_layers`, as Qwen's files say
    it: there the first layers see everything."""
    kinds = raw.get("layer_types")
    uses = keys.flag(raw, "use_sliding_window", False) and raw.get("sliding_window") is not None
    if kinds is None:
        first = keys.integer(raw, "max_window_layers", 0) if uses else count
        return [layer >= first for layer in range(count)]
    known = ("full_attention", "sliding_attention")
    if not isinstance(kinds, list) or len(kinds) != count:
        raise ConfigError(f"config: layer_types must list {count} layers, one each")
    if odd := [kind for kind in kinds if kind not in known]:
        raise ConfigError(f"config: layer type {odd[0]!r:.80} is not supported, only {known}")
    return [kind == "sliding_attention" for kind in kinds]


def window_tokens(raw: keys.Raw) -> int:
    """What a token sees in layers with a window, itself included; 1 where nothing is said."""
    window = keys.integer(raw, "sliding_window", 1)
    if window < 1:
        raise ConfigError(f"config: sliding_window is {window:.9g}, expected 1 or more")
    return window


def sources(
    config: ModelConfig, *, is_fused: bool = False, experts: str = "mlp.experts"
) -> Sources:
    """The tensors of the published names. With `is_fused` q, k and v are one, gate and up too."""
    names = common_sources(config)
    for index, layer in enumerate(config.layers):
        ours, theirs = f"layers.{index}", f"model.layers.{index}"
        names |= attention(layer, f"{ours}.mixer", f"{theirs}.self_attn", is_fused=is_fused)
        if config.has_experts(index):
            names |= routed(config, f"{ours}.mlp", f"{theirs}.mlp.gate", f"{theirs}.{experts}")
        else:
            names |= dense(f"{ours}.mlp", f"{theirs}.mlp", is_fused=is_fused)
    return names


def common_sources(config: ModelConfig) -> Sources:
    """Embedding, head and the norms around mixers and MLPs."""
    names: Sources = {
        "embed.weight": ("model.embed_tokens.weight",),
        "norm.weight": ("model.norm.weight",),
    }
    if not config.tied_embeddings:
        names["head.weight"] = ("lm_head.weight",)
    for ours, theirs in _norm_names(config).items():
        for layer in range(config.num_layers):
            names[f"layers.{layer}.{ours}.weight"] = (f"model.layers.{layer}.{theirs}.weight",)
    return names


def dense(ours: str, theirs: str, *, is_fused: bool = False) -> Sources:
    """Of a gated MLP."""
    gate_up = ("gate_up",) if is_fused else ("gate", "up")
    return {
        f"{ours}.gate_up": tuple(f"{theirs}.{x}_proj.weight" for x in gate_up),
        f"{ours}.down": (f"{theirs}.down_proj.weight",),
    }


def _norm_names(config: ModelConfig) -> dict[str, str]:
    """Our names of a layer's norms, and the published ones: where there are norms behind mixer and
    MLP, `post_attention_layernorm` is that behind the mixer."""
    if not config.output_norms:
        return {"mixer_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
    behind = {
        "mixer_out_norm": "post_attention_layernorm",
        "mlp_out_norm": "post_feedforward_layernorm",
    }
    if not config.input_norms:
        return behind
    return {"mixer_norm": "input_layernorm", "mlp_norm": "pre_feedforward_layernorm", **behind}


def attention(layer: LayerConfig, ours: str, theirs: str, *, is_fused: bool = False) -> Sources:
    """Of one softmax mixer."""
    options, parts = layer.softmax, ("qkv",) if is_fused else ("q", "k", "v")
    names: Sources = {
        f"{ours}.qkv": tuple(f"{theirs}.{x}_proj.weight" for x in parts),
        f"{ours}.out": (f"{theirs}.o_proj.weight",),
    }
    if options.qkv_bias:
        names[f"{ours}.qkv_bias"] = tuple(f"{theirs}.{x}_proj.bias" for x in parts)
    if options.out_bias:
        names[f"{ours}.out_bias"] = (f"{theirs}.o_proj.bias",)
    if options.qk_norm is not QkNorm.NONE:
        names |= {f"{ours}.{x}_norm.weight": (f"{theirs}.{x}_norm.weight",) for x in "qk"}
    return names


def routed(config: ModelConfig, ours: str, router: str, experts: str) -> Sources:
    """Of a mixture of experts whose tensors are named as a dense MLP's, one by one."""
    each = [f"{experts}.{e}" for e in range(config.num_experts)]
    return {
        f"{ours}.router": (f"{router}.weight",),
        f"{ours}.gate_up": tuple(f"{e}.{w}_proj.weight" for e in each for w in ("gate", "up")),
        f"{ours}.down": tuple(f"{e}.down_proj.weight" for e in each),
    }
