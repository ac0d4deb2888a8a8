"""Our own checkpoints: every option of a layer spelled out. docs/mm1-config.md has each key.

Tensor names are MiniMax-M1's for mixers and experts, and Llama's for a dense MLP.
"""

from collections.abc import Mapping
from typing import Any

from engine.config import (
    LayerConfig,
    LightningOptions,
    Mixer,
    ModelConfig,
    Residual,
    SoftmaxOptions,
)
from engine.errors import ConfigError
from engine.families import decoder, experts, keys
from engine.families.family import Family, Sources

NAME = "mm1"

_COMMON = {
    "mixer",
    "attention_alpha",
    "attention_beta",
    "mlp_alpha",
    "mlp_beta",
    "rotary_dim",
    "rotary_frequency_dim",
    "rope_theta",
}
_OWN = {
    Mixer.LIGHTNING: {"silu", "qk_norm", "scale", "slopes", "slope_layer_factor", "norm_groups"},
    Mixer.SOFTMAX: {
        "output_gate",
        "window_tokens",
        "sink_tokens",
        "window_always",
        "log_scale_base",
        "log_scale_from_tokens",
    },
}


def read_config(raw: keys.Raw) -> ModelConfig:
    keys.require(raw, "hidden_act", ("silu",))
    num_heads = keys.integer(raw, "num_attention_heads")
    num_experts, chosen, shared_size = _experts(raw)
    return ModelConfig(
        family=NAME,
        vocab_size=keys.integer(raw, "vocab_size"),
        hidden_size=keys.integer(raw, "hidden_size"),
        num_heads=num_heads,
        num_kv_heads=keys.integer(raw, "num_key_value_heads", num_heads),
        head_dim=keys.integer(raw, "head_dim"),
        rotary_frequencies=(),
        mlp_size=keys.integer(raw, "intermediate_size"),
        layers=_layers(raw),
        num_experts=num_experts,
        num_experts_per_token=chosen,
        shared_mlp_size=shared_size,
        norm_eps=keys.number(raw, "rms_norm_eps", 1e-5),
        lightning_norm_eps=keys.number(raw, "lightning_norm_eps", 1e-6),
        postnorm=keys.flag(raw, "postnorm", False),
        tied_embeddings=keys.flag(raw, "tie_word_embeddings", False),
        max_positions=keys.integer(raw, "max_position_embeddings"),
        eos_ids=keys.token_ids(raw, "eos_token_id"),
    )


def _experts(raw: keys.Raw) -> tuple[int, int, int]:
    """How many, how many of them for a token, and the width of the shared one."""
    num_experts = keys.integer(raw, "num_local_experts", 0)
    chosen, shared_size = keys.integer(raw, "num_experts_per_tok", 0), experts.shared_size(raw)
    if num_experts == 0 and (chosen or shared_size):
        name = "num_experts_per_tok" if chosen else "shared_intermediate_size"
        raise ConfigError(f"config: {name} without num_local_experts")
    return num_experts, chosen, shared_size


def _layers(raw: keys.Raw) -> tuple[LayerConfig, ...]:
    kinds, names = raw.get("layer_kinds"), raw.get("layers")
    if not isinstance(kinds, dict) or not 0 < len(kinds) <= 1000:
        raise ConfigError("config: layer_kinds must be an object of 1 to 1,000 kinds of layer")
    if not isinstance(names, list) or not 0 < len(names) <= 1000:
        raise ConfigError("config: layers must list 1 to 1,000 names from layer_kinds")
    if unknown := [name for name in names if not isinstance(name, str) or name not in kinds]:
        raise ConfigError(f"config: layer kind {unknown[0]!r:.80} is not in layer_kinds")
    read = {name: _layer(name, kind) for name, kind in kinds.items()}
    return tuple(read[name] for name in names)


def _layer(name: str, raw: Any) -> LayerConfig:  # noqa: ANN401 (JSON)
    where = f"config: layer kind {name!r:.80}"
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where} must be an object")
    try:
        mixer = Mixer(str(raw.get("mixer")))
        own = _OWN[mixer]
    except (ValueError, KeyError):
        raise ConfigError(
            f"{where}: mixer {raw.get('mixer')!r:.80}, not lightning or softmax"
        ) from None
    if unknown := sorted(raw.keys() - _COMMON - own):
        raise ConfigError(f"{where}: {unknown[0]!r:.80} is not an option of {mixer} layers")
    try:
        return LayerConfig(
            mixer,
            Residual(keys.number(raw, "attention_alpha", 1), keys.number(raw, "attention_beta", 1)),
            Residual(keys.number(raw, "mlp_alpha", 1), keys.number(raw, "mlp_beta", 1)),
            lightning=_lightning(raw) if mixer is Mixer.LIGHTNING else LightningOptions(),
            softmax=_softmax(raw) if mixer is Mixer.SOFTMAX else SoftmaxOptions(),
        )
    except ConfigError as error:
        raise ConfigError(f"{where}: {str(error).removeprefix('config: ')}") from None


def _lightning(raw: keys.Raw) -> LightningOptions:
    return LightningOptions(
        silu=keys.flag(raw, "silu", True),
        qk_norm=keys.flag(raw, "qk_norm", False),
        rotary_frequencies=_frequencies(raw),
        scale=keys.number(raw, "scale", 1),
        slopes=keys.numbers(raw, "slopes"),
        slope_layer_factor=keys.flag(raw, "slope_layer_factor", True),
        norm_groups=keys.integer(raw, "norm_groups", 1),
    )


def _softmax(raw: keys.Raw) -> SoftmaxOptions:
    return SoftmaxOptions(
        rotary_frequencies=_frequencies(raw),
        output_gate=keys.flag(raw, "output_gate", False),
        window_tokens=keys.integer(raw, "window_tokens", 0),
        sink_tokens=keys.integer(raw, "sink_tokens", 0),
        sliding_window=keys.flag(raw, "window_always", False),
        log_scale_base=keys.number(raw, "log_scale_base", 0),
        log_scale_from_tokens=keys.integer(raw, "log_scale_from_tokens", 0),
    )


def _frequencies(raw: keys.Raw) -> tuple[float, ...]:
    """The first rotary_dim / 2 of the frequencies theta^(-2i / rotary_frequency_dim)."""
    rotary_dim = keys.integer(raw, "rotary_dim", 0)
    if rotary_dim % 2:
        raise ConfigError(f"config: rotary_dim must be even, got {rotary_dim:.9g}")
    period = keys.integer(raw, "rotary_frequency_dim", rotary_dim)
    if not 0 <= rotary_dim <= period:
        raise ConfigError(
            f"config: rotary_dim {rotary_dim:.9g} is not 0 to rotary_frequency_dim {period:.9g}"
        )
    return keys.frequencies(keys.rope_theta(raw, 10_000.0), period)[: rotary_dim // 2]


def sources(config: ModelConfig) -> Sources:
    names = decoder.common_sources(config)
    for index, layer in enumerate(config.layers):
        ours, theirs = f"layers.{index}", f"model.layers.{index}"
        names |= _mixer_sources(layer, f"{ours}.mixer", f"{theirs}.self_attn")
        if config.num_experts:
            names |= experts.sources(config, f"{ours}.mlp", theirs)
        else:
            names |= decoder.dense(f"{ours}.mlp", f"{theirs}.mlp")
    return names


def _mixer_sources(layer: LayerConfig, ours: str, theirs: str) -> Sources:
    if layer.mixer is Mixer.LIGHTNING:
        names: Sources = {
            f"{ours}.qkv": (f"{theirs}.qkv_proj.weight",),
            f"{ours}.gate": (f"{theirs}.output_gate.weight",),
            f"{ours}.norm.weight": (f"{theirs}.norm.weight",),
            f"{ours}.out": (f"{theirs}.out_proj.weight",),
        }
        if layer.lightning.qk_norm:
            names |= {f"{ours}.{x}_norm.weight": (f"{theirs}.{x}_norm.weight",) for x in "qk"}
        return names
    names = decoder.attention(layer, ours, theirs)
    if layer.softmax.output_gate:
        names[f"{ours}.gate"] = (f"{theirs}.output_gate.weight",)
    return names


FAMILY = Family(NAME, ("Mm1ForCausalLM",), (NAME,), read_config, sources)
