"""MiniCPM-SALA: Lightning layers with ALiBi's slopes and rotation of whole heads, and softmax ones
without rotation that choose blocks of a long context; multipliers of embedding, residuals, logits.
"""

import math

from engine.config import (
    LayerConfig,
    LightningOptions,
    Mixer,
    ModelConfig,
    Residual,
    SoftmaxOptions,
    SparseOptions,
)
from engine.errors import ConfigError
from engine.families import decoder, keys, rope
from engine.families.family import Family, Sources

NAME = "minicpm_sala"
_MIXERS = {
    "minicpm4": Mixer.SOFTMAX,
    "lightning-attn": Mixer.LIGHTNING,
    "lightning_attn": Mixer.LIGHTNING,
    "lightning": Mixer.LIGHTNING,
}
_SCALES = {"1/sqrt(d)": -0.5, "1/d": -1.0, None: 0.0, "none": 0.0}  # powers of the head size


def read_config(raw: keys.Raw) -> ModelConfig:
    keys.require(raw, "attention_bias", (False, None))
    keys.require(raw, "use_output_gate", (True, None))
    keys.require(raw, "use_output_norm", (True, None))
    head_dim, num_heads = decoder.head_dim(raw), keys.integer(raw, "num_attention_heads")
    for key, same in (
        ("lightning_head_dim", head_dim),
        ("lightning_nh", num_heads),
        ("lightning_nkv", num_heads),
    ):
        if keys.integer(raw, key, same) != same:
            raise ConfigError(f"config: {key} is {raw[key]!r:.80}, not {same} as softmax layers'")
    found = rope.read(raw, head_dim, 10_000.0)
    count = decoder.num_layers(raw)
    residual = Residual(beta=keys.number(raw, "scale_depth", 1.0) / math.sqrt(count))
    lightning = LayerConfig(
        Mixer.LIGHTNING, residual, residual, lightning=_lightning(raw, head_dim, found)
    )
    softmax = LayerConfig(Mixer.SOFTMAX, residual, residual, softmax=_softmax(raw))
    base = keys.number(raw, "dim_model_base", 0.0) or keys.integer(raw, "hidden_size")
    return decoder.read_config(
        raw,
        NAME,
        [lightning if kind is Mixer.LIGHTNING else softmax for kind in _mixers(raw, count)],
        found,
        lightning_norm_eps=keys.number(raw, "rms_norm_eps", 1e-6),
        embed_scale=keys.number(raw, "scale_emb", 1.0),
        logit_scale=base / max(keys.integer(raw, "hidden_size"), 1),
    )


def _mixers(raw: keys.Raw, count: int) -> list[Mixer]:
    kinds = raw.get("mixer_types")
    if not isinstance(kinds, list) or len(kinds) != count:
        raise ConfigError(f"config: mixer_types must list {count} layers, one each")
    if odd := [kind for kind in kinds if not isinstance(kind, str) or kind not in _MIXERS]:
        known = ", ".join(_MIXERS)
        raise ConfigError(f"config: mixer type {odd[0]!r:.80} is not supported, only {known}")
    return [_MIXERS[kind] for kind in kinds]


def _lightning(raw: keys.Raw, head_dim: int, found: rope.Rope) -> LightningOptions:
    scale = raw.get("lightning_scale", "1/sqrt(d)")
    if not isinstance(scale, str | None) or scale not in _SCALES:
        raise ConfigError(f"config: lightning_scale {scale!r:.80} is not 1/sqrt(d), 1/d or none")
    uses_rope = keys.flag(raw, "lightning_use_rope", True)
    return LightningOptions(
        silu=False,
        qk_norm=keys.flag(raw, "qk_norm", True),
        rotary_frequencies=found.frequencies if uses_rope else (),
        attention_factor=found.attention_factor,
        scale=max(head_dim, 1) ** _SCALES[scale],
        slope_layer_factor=False,
        by_kind=True,
    )


def _softmax(raw: keys.Raw) -> SoftmaxOptions:
    sparse = raw.get("sparse_config")
    if not isinstance(sparse, dict | None):
        raise ConfigError(f"config: sparse_config must be an object, got {sparse!r:.80}")
    return SoftmaxOptions(
        sparse=None if sparse is None else _sparse(sparse),
        rotary_frequencies=None if keys.flag(raw, "attn_use_rope", False) else (),
        output_gate=keys.flag(raw, "attn_use_output_gate", True),
    )


def _sparse(raw: keys.Raw) -> SparseOptions:
    keys.require(raw, "use_nope", (False, None))
    stride = keys.integer(raw, "kernel_stride", 16)
    for key, strides in (("kernel_size", 2), ("block_size", 4)):
        if keys.integer(raw, key, strides * stride) != strides * stride:
            raise ConfigError(f"config: {key} is {raw[key]!r:.80}, not {strides} kernel_stride")
    return SparseOptions(
        stride=stride,
        num_blocks=keys.integer(raw, "topk", 64),
        window_tokens=keys.integer(raw, "window_size", 2048),
        first_blocks=keys.integer(raw, "init_blocks", 1),
        dense_tokens=keys.integer(raw, "dense_len", 8192),
    )


def sources(config: ModelConfig) -> Sources:
    names = decoder.common_sources(config)
    for index, layer in enumerate(config.layers):
        ours, theirs = f"layers.{index}.mixer", f"model.layers.{index}.self_attn"
        names |= decoder.attention(layer, ours, theirs)
        if layer.mixer is Mixer.LIGHTNING:
            names[f"{ours}.gate"] = (f"{theirs}.z_proj.weight",)
            names[f"{ours}.norm.weight"] = (f"{theirs}.o_norm.weight",)
            names |= {f"{ours}.{x}_norm.weight": (f"{theirs}.{x}_norm.weight",) for x in "qk"}
        else:
            names[f"{ours}.gate"] = (f"{theirs}.o_gate.weight",)
        names |= decoder.dense(f"layers.{index}.mlp", f"model.layers.{index}.mlp")
    return names


FAMILY = Family(NAME, ("MiniCPMSALAForCausalLM",), (NAME,), read_config, sources)
