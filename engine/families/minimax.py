"""MiniMax-Text-01 and MiniMax-M1, in their own spelling and in that of the "-hf" repositories.

Lightning and softmax layers mixed, a mixture of experts in each, tensor names as published.
"""

from dataclasses import replace
from typing import Any

from engine.config import LayerConfig, Mixer, ModelConfig, Residual
from engine.errors import ConfigError
from engine.families import decoder, experts, keys
from engine.families.family import Family, NumRows, Sources

NAME = "minimax"

_MIXERS: dict[Any, Mixer] = {
    0: Mixer.LIGHTNING,
    1: Mixer.SOFTMAX,
    "linear_attention": Mixer.LIGHTNING,
    "full_attention": Mixer.SOFTMAX,
}


def read_config(raw: keys.Raw) -> ModelConfig:
    keys.require(raw, "hidden_act", ("silu",))
    keys.require(raw, "sliding_window", (None,))
    if (kind := keys.rope_scaling(raw)[0]) != "default":
        raise ConfigError(f"config: rope type {kind!r:.80} is not supported, only default")
    num_heads = keys.integer(raw, "num_attention_heads")
    head_dim = keys.integer(raw, "head_dim", keys.integer(raw, "hidden_size") // max(num_heads, 1))
    num_experts = keys.integer(raw, "num_local_experts")
    if num_experts < 1:
        raise ConfigError(f"config: num_local_experts is {num_experts:.9g}, expected 1 or more")
    return ModelConfig(
        family=NAME,
        vocab_size=keys.integer(raw, "vocab_size"),
        hidden_size=keys.integer(raw, "hidden_size"),
        num_heads=num_heads,
        num_kv_heads=keys.integer(raw, "num_key_value_heads", num_heads),
        head_dim=head_dim,
        rotary_frequencies=keys.frequencies(
            keys.rope_theta(raw, 1_000_000.0), _rotary_dim(raw, head_dim)
        ),
        mlp_size=keys.integer(raw, "intermediate_size"),
        layers=_layers(raw),
        num_experts=num_experts,
        num_experts_per_token=keys.integer(raw, "num_experts_per_tok"),
        shared_mlp_size=experts.shared_size(raw),
        norm_eps=keys.number(raw, "rms_norm_eps", 1e-5),
        # The published code leaves this norm at its class default instead of rms_norm_eps.
        lightning_norm_eps=keys.number(raw, "lightning_norm_eps", 1e-6),
        postnorm=keys.flag(raw, "postnorm", raw["model_type"] == "minimax"),
        tied_embeddings=keys.flag(raw, "tie_word_embeddings", False),
        max_positions=keys.integer(raw, "max_position_embeddings"),
        eos_ids=keys.token_ids(raw, "eos_token_id"),
    )


def _rotary_dim(raw: keys.Raw, head_dim: int) -> int:
    """`rotary_dim` where it is given: the published weights rotate half of each head."""
    if raw.get("rotary_dim") is not None:
        return keys.integer(raw, "rotary_dim")
    nested = raw.get("rope_parameters")
    if isinstance(nested, dict) and "partial_rotary_factor" in nested:
        return int(head_dim * keys.number(nested, "partial_rotary_factor"))
    return head_dim


def _layers(raw: keys.Raw) -> tuple[LayerConfig, ...]:
    kinds = raw.get("attn_type_list") or raw.get("layer_types")
    num_layers = keys.integer(raw, "num_hidden_layers")
    if not isinstance(kinds, list) or len(kinds) != num_layers:
        raise ConfigError(
            f"config: attn_type_list (or layer_types) must list {num_layers:.9g} layers, one each"
        )
    if unknown := [
        kind for kind in kinds if not isinstance(kind, int | str) or kind not in _MIXERS
    ]:
        raise ConfigError(f"config: layer type {unknown[0]!r:.80} is not supported")

    def residual(published: str, renamed: str) -> Residual:
        return Residual(
            keys.number(raw, f"{published}_alpha", keys.number(raw, f"{renamed}_alpha_factor", 1)),
            keys.number(raw, f"{published}_beta", keys.number(raw, f"{renamed}_beta_factor", 1)),
        )

    attention = {
        Mixer.LIGHTNING: residual("layernorm_linear_attention", "linear_attn"),
        Mixer.SOFTMAX: residual("layernorm_full_attention", "full_attn"),
    }
    mlp = residual("layernorm_mlp", "mlp")
    return tuple(
        LayerConfig(mixer, attention[mixer], mlp) for mixer in (_MIXERS[kind] for kind in kinds)
    )


def by_tensors(config: ModelConfig, num_rows: NumRows) -> ModelConfig:
    """The published code gives the shared expert `intermediate_size` whatever
    `shared_intermediate_size` says, others give it that: the tensors tell."""
    if not config.shared_mlp_size:
        return config
    width = num_rows("model.layers.0.shared_mlp.gate_proj.weight")
    return replace(config, shared_mlp_size=width) if width == config.mlp_size else config


def sources(config: ModelConfig) -> Sources:
    names = decoder.common_sources(config)
    for index, layer in enumerate(config.layers):
        ours, theirs = f"layers.{index}", f"model.layers.{index}"
        attention = f"{theirs}.self_attn"
        if layer.mixer is Mixer.LIGHTNING:
            names[f"{ours}.mixer.qkv"] = (f"{attention}.qkv_proj.weight",)
            names[f"{ours}.mixer.gate"] = (f"{attention}.output_gate.weight",)
            names[f"{ours}.mixer.norm.weight"] = (f"{attention}.norm.weight",)
            names[f"{ours}.mixer.out"] = (f"{attention}.out_proj.weight",)
        else:
            names |= decoder.attention(layer, f"{ours}.mixer", attention)
        names |= experts.sources(config, f"{ours}.mlp", theirs)
    return names


FAMILY = Family(
    NAME,
    ("MiniMaxM1ForCausalLM", "MiniMaxText01ForCausalLM", "MiniMaxForCausalLM"),
    ("minimax_m1", "minimax_text_01", "minimax"),
    read_config,
    sources,
    by_tensors,
)
