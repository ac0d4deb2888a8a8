"""Qwen3-Next, Qwen3.5 and Qwen3.6: three gated delta layers to one of softmax, dense or with a
mixture of experts and a shared one.

Softmax layers have their output's gate among the rows of q, an RMSNorm on q and k of each head and
rotate part of it; norms are of weight 1 + w, but those inside delta layers. Of models that see
pictures the text part is read: for text the three sections of their rotation are one and the same.
Tensors that draft further tokens ("mtp") are left alone.
"""

from functools import partial
from typing import Any

from engine.config import (
    DeltaOptions,
    LayerConfig,
    Mixer,
    ModelConfig,
    QkNorm,
    SharedExpert,
    SoftmaxOptions,
)
from engine.errors import ConfigError
from engine.families import decoder, keys, rope
from engine.families.family import Family, Sources
from engine.families.gemma3 import text_config
from engine.families.qwen3_moe import with_dense_layers

NEXT, QWEN3_5 = "qwen3_next", "qwen3_5"
_MIXERS = {"linear_attention": Mixer.DELTA, "full_attention": Mixer.SOFTMAX}
_PERIOD = 4  # every fourth layer is softmax where the file does not say


def read_config(family: str, raw: keys.Raw) -> ModelConfig:
    raw = {"head_dim": 256, **_with_tie(raw)}
    layers = _layers(raw, is_interleaved=family == NEXT)
    options: dict[str, Any] = {}
    if keys.integer(raw, "num_experts", 0):
        options = _experts(raw)
        # Where every layer has experts a file need not say how wide a dense one would be.
        raw = {"intermediate_size": options["mlp_size"], **raw}
        layers = with_dense_layers(raw, layers)
    rotary_dim = rope.rotary_dim(raw, decoder.head_dim(raw), share=0.25)
    found = rope.read(raw, rotary_dim, 10_000.0)
    return decoder.read_config(raw, family, layers, found, norm_offset=1.0, **options)


def _with_tie(raw: keys.Raw) -> keys.Raw:
    """The text part; whether head and embedding are one is said beside it."""
    key = "tie_word_embeddings"
    return {**text_config(raw), **({key: raw[key]} if key in raw else {})}


def _experts(raw: keys.Raw) -> dict[str, Any]:
    return {
        "mlp_size": keys.integer(raw, "moe_intermediate_size"),
        "num_experts": keys.integer(raw, "num_experts"),
        "num_experts_per_token": keys.integer(raw, "num_experts_per_tok"),
        "shared_mlp_size": keys.integer(raw, "shared_expert_intermediate_size"),
        "shared_expert": SharedExpert.GATED,
        "normalize_router": keys.flag(raw, "norm_topk_prob", True),
    }


def _layers(raw: keys.Raw, *, is_interleaved: bool) -> tuple[LayerConfig, ...]:
    count, kinds = decoder.num_layers(raw), raw.get("layer_types")
    if kinds is None:
        period = max(keys.integer(raw, "full_attention_interval", _PERIOD), 1)
        kinds = [list(_MIXERS)[(layer + 1) % period == 0] for layer in range(count)]
    if not isinstance(kinds, list) or len(kinds) != count:
        raise ConfigError(f"config: layer_types must list {count} layers, one each")
    if odd := [kind for kind in kinds if not isinstance(kind, str) or kind not in _MIXERS]:
        known = " and ".join(_MIXERS)
        raise ConfigError(f"config: layer type {odd[0]!r:.80} is not supported, only {known}")
    has_bias = keys.flag(raw, "attention_bias", False)
    softmax = SoftmaxOptions(
        qk_norm=QkNorm.HEAD,
        qkv_bias=has_bias,
        out_bias=has_bias,
        output_gate=True,
        gate_in_q=True,
    )
    delta = DeltaOptions(
        num_key_heads=keys.integer(raw, "linear_num_key_heads", 16),
        num_value_heads=keys.integer(raw, "linear_num_value_heads", 32),
        key_dim=keys.integer(raw, "linear_key_head_dim", 128),
        value_dim=keys.integer(raw, "linear_value_head_dim", 128),
        taps=keys.integer(raw, "linear_conv_kernel_dim", 4),
        interleaved=is_interleaved,
        tiled=keys.flag(raw, "linear_value_heads_tiled", False),  # of GGUF files, read in place
    )
    return tuple(LayerConfig(_MIXERS[kind], softmax=softmax, delta=delta) for kind in kinds)


def sources(config: ModelConfig) -> Sources:
    names = decoder.common_sources(config)
    for index, layer in enumerate(config.layers):
        ours, theirs = f"layers.{index}", f"model.layers.{index}"
        if layer.mixer is Mixer.DELTA:
            names |= _delta(layer.delta, f"{ours}.mixer", f"{theirs}.linear_attn")
        else:
            names |= decoder.attention(layer, f"{ours}.mixer", f"{theirs}.self_attn")
        names |= _mlp(config, index, f"{ours}.mlp", f"{theirs}.mlp")
    return names


def _delta(options: DeltaOptions, ours: str, theirs: str) -> Sources:
    qkvz, ba = (("qkvz",), ("ba",)) if options.interleaved else (("qkv", "z"), ("b", "a"))
    return {
        f"{ours}.qkvz": tuple(f"{theirs}.in_proj_{x}.weight" for x in qkvz),
        f"{ours}.ba": tuple(f"{theirs}.in_proj_{x}.weight" for x in ba),
        f"{ours}.convolution": (f"{theirs}.conv1d.weight",),
        f"{ours}.log_decay": (f"{theirs}.A_log",),
        f"{ours}.decay_bias": (f"{theirs}.dt_bias",),
        f"{ours}.norm_scale": (f"{theirs}.norm.weight",),
        f"{ours}.out": (f"{theirs}.out_proj.weight",),
    }


def _mlp(config: ModelConfig, layer: int, ours: str, theirs: str) -> Sources:
    if not config.has_experts(layer):
        return decoder.dense(ours, theirs)
    names = decoder.routed(config, ours, f"{theirs}.gate", f"{theirs}.experts")
    names |= decoder.dense(f"{ours}.shared", f"{theirs}.shared_expert")
    names[f"{ours}.shared_coefficient"] = (f"{theirs}.shared_expert_gate.weight",)
    return names


FAMILIES = tuple(
    Family(name, architectures, model_types, partial(read_config, name), sources)
    for name, architectures, model_types in (
        (NEXT, ("Qwen3NextForCausalLM",), ("qwen3_next",)),
        (
            QWEN3_5,
            (
                "Qwen3_5ForCausalLM",
                "Qwen3_5MoeForCausalLM",
                "Qwen3_5ForConditionalGeneration",
                "Qwen3_5MoeForConditionalGeneration",
            ),
            ("qwen3_5_text", "qwen3_5_moe_text", "qwen3_5", "qwen3_5_moe"),
        ),
    )
)
