"""Ring-linear-2.0 and Ling/Ring 2.5 and 2.6 (arXiv 2510.19338): Lightning layers with RMSNorm and
rotation of q and k, one softmax layer in each group, and many small experts.

Slopes count layers from 0, as the authors' trainer and SGLang do; the modelling file beside the
published weights subtracts one from that, which `slope_layer_offset: -1` in config.json gives.
Tensors of layers that draft further tokens (`num_nextn_predict_layers`) are left alone.
"""

from dataclasses import replace
from typing import Any

from engine.config import (
    LatentOptions,
    LayerConfig,
    LightningOptions,
    Mixer,
    ModelConfig,
    QkNorm,
    SharedExpert,
    SigmoidRouter,
    SoftmaxOptions,
)
from engine.errors import ConfigError
from engine.families import decoder, keys, rope
from engine.families.family import Family, Sources

LINEAR, HYBRID = "bailing_moe_linear", "bailing_hybrid"
_LINEAR_V2, _HYBRID_V2_5 = "BailingMoeLinearV2ForCausalLM", "BailingMoeV2_5ForCausalLM"


def read_linear(raw: keys.Raw) -> ModelConfig:
    """Ring-linear-2.0: softmax layers have grouped heads."""
    if _LINEAR_V2 not in (raw.get("architectures") or []):
        raise ConfigError(
            f"config: {LINEAR} stands for models that are computed differently; architectures must "
            f"name {_LINEAR_V2}"
        )
    softmax = SoftmaxOptions(qk_norm=_qk_norm(raw))
    return _model(raw, LINEAR, LayerConfig(Mixer.SOFTMAX, softmax=softmax))


def read_hybrid(raw: keys.Raw) -> ModelConfig:
    """Ling and Ring 2.5 and 2.6: softmax layers are latent attention."""
    if raw.get("short_conv_kernel_size") is not None:
        raise ConfigError(
            "config: bailing_hybrid with short_conv_kernel_size is Ling 3, whose delta layers are "
            "not supported, only Ling and Ring 2.5 and 2.6"
        )
    rope_dim = keys.integer(raw, "qk_rope_head_dim")
    turned = rope.read(raw, rope_dim, _THETA)
    nope_dim, q_rank = keys.integer(raw, "qk_nope_head_dim"), raw.get("q_lora_rank")
    latent = LatentOptions(
        kv_rank=keys.integer(raw, "kv_lora_rank"),
        nope_dim=nope_dim,
        rope_dim=rope_dim,
        value_dim=keys.integer(raw, "v_head_dim"),
        q_rank=0 if q_rank is None else keys.integer(raw, "q_lora_rank"),
        rotary_frequencies=turned.frequencies,
        attention_factor=turned.attention_factor,
        interleaved=keys.flag(raw, "rope_interleave", True),
        scale=max(nope_dim + rope_dim, 1) ** -0.5 * rope.score_factor(raw),
    )
    return _model(raw, HYBRID, LayerConfig(Mixer.LATENT, latent=latent))


def _qk_norm(raw: keys.Raw) -> QkNorm:
    return QkNorm.HEAD if keys.flag(raw, "use_qk_norm", True) else QkNorm.NONE


def _model(raw: keys.Raw, family: str, softmax: LayerConfig) -> ModelConfig:
    """`softmax` is the layer that each group ends with."""
    for key, allowed in _COMPUTED.items():
        keys.require(raw, key, allowed)
    num_layers = decoder.num_layers(raw)
    found = rope.read(raw, rope.rotary_dim(raw, decoder.head_dim(raw)), _THETA)
    eps = keys.number(raw, "rms_norm_eps", 1e-6)
    lightning = LayerConfig(Mixer.LIGHTNING, lightning=_lightning(raw, found))
    return decoder.read_config(
        raw,
        family,
        _with_dense_layers(raw, _layers(raw, num_layers, lightning, softmax)),
        found,
        lightning_norm_eps=eps,
        **_experts(raw),
    )


_THETA = 600_000.0
# What of a published config would be computed otherwise if it were anything else.
_COMPUTED: dict[str, tuple[object, ...]] = {
    "linear_silu": (False, None),
    "use_bias": (False, None),
    "use_qkv_bias": (False, None),
    "use_rmsnorm": (True, None),
    "score_function": ("sigmoid", None),
    "scoring_func": ("sigmoid", None),
    "norm_topk_prob": (True, None),
    "sliding_window": (None,),
}


def _lightning(raw: keys.Raw, found: rope.Rope) -> LightningOptions:
    return LightningOptions(
        silu=False,
        qk_norm=_qk_norm(raw) is QkNorm.HEAD,
        rotary_frequencies=found.frequencies,
        attention_factor=found.attention_factor,
        scale=max(decoder.head_dim(raw), 1) ** -0.5,
        slope_layer_offset=keys.integer(raw, "slope_layer_offset", 0),
        norm_groups=keys.integer(raw, "group_norm_size", 1),
        by_kind=True,
    )


def _layers(
    raw: keys.Raw, count: int, lightning: LayerConfig, softmax: LayerConfig
) -> list[LayerConfig]:
    """Each group ends with a softmax layer, and a group that is not whole is all of them."""
    size = keys.integer(raw, "layer_group_size", 1)
    if size < 1:
        raise ConfigError(f"config: layer_group_size is {size:.9g}, expected 1 or more")
    last_group = count // size * size
    return [
        softmax if (layer + 1) % size == 0 or layer >= last_group else lightning
        for layer in range(count)
    ]


def _with_dense_layers(raw: keys.Raw, layers: list[LayerConfig]) -> list[LayerConfig]:
    num_dense = keys.integer(raw, "first_k_dense_replace", 0)
    size = keys.integer(raw, "intermediate_size")
    return [
        replace(layer, dense_mlp_size=size) if index < num_dense else layer
        for index, layer in enumerate(layers)
    ]


def _experts(raw: keys.Raw) -> dict[str, Any]:
    size, chosen = keys.integer(raw, "moe_intermediate_size"), "num_experts_per_tok"
    return {
        "mlp_size": size,
        "num_experts": keys.integer(raw, "num_experts"),
        "num_experts_per_token": keys.integer(raw, chosen),
        "shared_mlp_size": size * keys.integer(raw, "num_shared_experts", 0),
        "shared_expert": SharedExpert.PLAIN,
        "normalize_router": keys.integer(raw, chosen) > 1,
        "sigmoid_router": SigmoidRouter(
            num_groups=keys.integer(raw, "n_group", 1),
            kept_groups=keys.integer(raw, "topk_group", 1),
            scale=keys.number(raw, "routed_scaling_factor", 1.0),
            has_bias=keys.flag(raw, "moe_router_enable_expert_bias", False),
        ),
    }


def sources(config: ModelConfig) -> Sources:
    names = decoder.common_sources(config)
    names["embed.weight"] = ("model.word_embeddings.weight",)
    for index, layer in enumerate(config.layers):
        ours, theirs = f"layers.{index}", f"model.layers.{index}"
        names |= _mixer(layer, f"{ours}.mixer", f"{theirs}.attention")
        names |= _mlp(config, index, f"{ours}.mlp", f"{theirs}.mlp")
    return names


def _mixer(layer: LayerConfig, ours: str, theirs: str) -> Sources:
    if layer.mixer is Mixer.LATENT:
        return {
            f"{ours}.{name}": (f"{theirs}.{stored}.weight",) for name, stored in _LATENT.items()
        }
    names: Sources = {
        f"{ours}.qkv": (f"{theirs}.query_key_value.weight",),
        f"{ours}.out": (f"{theirs}.dense.weight",),
        f"{ours}.q_norm.weight": (f"{theirs}.query_layernorm.weight",),
        f"{ours}.k_norm.weight": (f"{theirs}.key_layernorm.weight",),
    }
    if layer.mixer is Mixer.LIGHTNING:
        names[f"{ours}.gate"] = (f"{theirs}.g_proj.weight",)
        names[f"{ours}.norm.weight"] = (f"{theirs}.g_norm.weight",)
    return names


_LATENT = {
    "q": "q_proj",
    "q_a": "q_a_proj",
    "q_norm.weight": "q_a_layernorm",
    "q_b": "q_b_proj",
    "kv_a": "kv_a_proj_with_mqa",
    "kv_norm.weight": "kv_a_layernorm",
    "kv_b": "kv_b_proj",
    "out": "dense",
}


def _mlp(config: ModelConfig, layer: int, ours: str, theirs: str) -> Sources:
    if not config.has_experts(layer):
        return decoder.dense(ours, theirs)
    names = decoder.routed(config, ours, f"{theirs}.gate", f"{theirs}.experts")
    names[f"{ours}.router_bias"] = (f"{theirs}.gate.expert_bias",)
    if config.shared_mlp_size:
        names |= decoder.dense(f"{ours}.shared", f"{theirs}.shared_experts")
    return names


FAMILIES = (
    Family(LINEAR, (_LINEAR_V2,), (LINEAR,), read_linear, sources),
    Family(HYBRID, (_HYBRID_V2_5,), (HYBRID,), read_hybrid, sources),
)
