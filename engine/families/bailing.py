"""Ring-linear-2.0 and Ling/Ring 2.5 and 2.6 (arXiv 2510.19338): Lightning layers with RMSNorm and
rotation of q and k, one softmax layer in each group, and many small experts.

Slopes count layers from 0, as the authors' trainer and SGLang do; the modelling file beside the
published weights subtracts one from that, which `slope_layer_offset: -1` in config.json gives.
Tensors of layers that draft further tokens (`num_nextn_predict_layers`) are left alone.
"""

from dataclasses import replace
from typing import Any

from engine.config import (
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

LINEAR = "bailing_moe_linear"
_LINEAR_V2 = "BailingMoeLinearV2ForCausalLM"


def read_linear(raw: keys.Raw) -> ModelConfig:
    """Ring-linear-2.0: softmax layers have grouped heads."""
    if _LINEAR_V2 not in (raw.get("architectures") or []):
        raise ConfigError(
            f"config: {LINEAR} stands for models that are computed differently; architectures must "
            f"name {_LINEAR_V2}"
        )
    softmax = SoftmaxOptions(qk_norm=_qk_norm(raw))
    return _model(raw, LINEAR, LayerConfig(Mixer.SOFTMAX, softmax=softmax))


def _qk_norm(raw: keys.Raw) -> QkNorm:
    return QkNorm.HEAD if keys.flag(raw, "use_qk_norm", True) else QkNorm.NONE


def _model(raw: keys.Raw, family: str, softmax: LayerConfig) -> ModelConfig:
    """`softmax` is the layer that each group ends with."""
    for key, allowed in _COMPUTED.items():
        keys.require(raw, key, allowed)
    num_layers = decoder.num_layers(raw)
    found = rope.read(raw, rope.rotary_dim(raw, decoder.head_dim(raw)), 600_000.0)
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


# What of a published config would be computed otherwise if it were anything else.
_COMPUTED: dict[str, tuple[object, ...]] = {
    "linear_silu": (False, None),
    "use_bias": (False, None),
    "use_qkv_bias": (False, None),
    "use_rmsnorm": (True, None),
    "score_function": ("sigmoid", None),
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


def _mlp(config: ModelConfig, layer: int, ours: str, theirs: str) -> Sources:
    if not config.has_experts(layer):
        return decoder.dense(ours, theirs)
    names = decoder.routed(config, ours, f"{theirs}.gate", f"{theirs}.experts")
    names[f"{ours}.router_bias"] = (f"{theirs}.gate.expert_bias",)
    if config.shared_mlp_size:
        names |= decoder.dense(f"{ours}.shared", f"{theirs}.shared_experts")
    return names


FAMILIES = (Family(LINEAR, (_LINEAR_V2,), (LINEAR,), read_linear, sources),)
