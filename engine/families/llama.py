"""Llama-shaped checkpoints (SmolLM2 and others): all layers softmax, pre-norm, a dense SwiGLU."""

import math

from engine.config import LayerConfig, Mixer, ModelConfig
from engine.errors import ConfigError
from engine.families import keys
from engine.families.family import Family, Sources

NAME = "llama"


def read_config(raw: keys.Raw) -> ModelConfig:
    keys.require(raw, "hidden_act", ("silu",))
    keys.require(raw, "attention_bias", (False, None))
    keys.require(raw, "mlp_bias", (False, None))
    num_heads = keys.integer(raw, "num_attention_heads")
    hidden_size = keys.integer(raw, "hidden_size")
    head_dim = keys.integer(raw, "head_dim", hidden_size // max(num_heads, 1))
    return ModelConfig(
        family=NAME,
        vocab_size=keys.integer(raw, "vocab_size"),
        hidden_size=hidden_size,
        num_heads=num_heads,
        num_kv_heads=keys.integer(raw, "num_key_value_heads", num_heads),
        head_dim=head_dim,
        rotary_frequencies=_frequencies(raw, head_dim),
        mlp_size=keys.integer(raw, "intermediate_size"),
        layers=(LayerConfig(Mixer.SOFTMAX),) * min(keys.integer(raw, "num_hidden_layers"), 10**6),
        norm_eps=keys.number(raw, "rms_norm_eps", 1e-6),
        tied_embeddings=keys.flag(raw, "tie_word_embeddings", False),
        max_positions=keys.integer(raw, "max_position_embeddings", 2048),
        eos_ids=keys.token_ids(raw, "eos_token_id"),
    )


def _frequencies(raw: keys.Raw, head_dim: int) -> tuple[float, ...]:
    plain = keys.frequencies(keys.rope_theta(raw, 10_000.0), head_dim)
    kind, scaling = keys.rope_scaling(raw)
    if kind == "default":
        return plain
    if kind != "llama3":
        raise ConfigError(
            f"config: rope type {kind!r:.80} is not supported, only default and llama3"
        )
    factor = keys.number(scaling, "factor")
    low = keys.number(scaling, "low_freq_factor")
    high = keys.number(scaling, "high_freq_factor")
    trained = keys.number(scaling, "original_max_position_embeddings")
    if factor <= 0 or high <= low:
        raise ConfigError("config: llama3 rope needs factor > 0 and high_freq_factor over low")

    def scaled(frequency: float) -> float:
        turns = trained * frequency / (2 * math.pi)  # full turns within the trained length
        kept = min(max((turns - low) / (high - low), 0.0), 1.0)
        return kept * frequency + (1 - kept) * frequency / factor

    return tuple(map(scaled, plain))


def sources(config: ModelConfig) -> Sources:
    names: Sources = {
        "embed.weight": ("model.embed_tokens.weight",),
        "norm.weight": ("model.norm.weight",),
    }
    if not config.tied_embeddings:
        names["head.weight"] = ("lm_head.weight",)
    for index in range(config.num_layers):
        ours, theirs = f"layers.{index}", f"model.layers.{index}"
        projections = tuple(f"{theirs}.self_attn.{x}_proj.weight" for x in "qkv")
        names[f"{ours}.mixer_norm.weight"] = (f"{theirs}.input_layernorm.weight",)
        names[f"{ours}.mixer.qkv"] = projections
        names[f"{ours}.mixer.out"] = (f"{theirs}.self_attn.o_proj.weight",)
        names[f"{ours}.mlp_norm.weight"] = (f"{theirs}.post_attention_layernorm.weight",)
        names[f"{ours}.mlp.gate_up"] = (
            f"{theirs}.mlp.gate_proj.weight",
            f"{theirs}.mlp.up_proj.weight",
        )
        names[f"{ours}.mlp.down"] = (f"{theirs}.mlp.down_proj.weight",)
    return names


FAMILY = Family(NAME, ("llama",), read_config, sources)
