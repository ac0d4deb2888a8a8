"""Gemma 3 (arXiv 2503.19786): norms of weight 1 + w before and behind mixer and MLP, GeGLU, scaled
embeddings, RMSNorm on q and k of each head, a window in five of six layers with a theta of its own.

Of the models that see pictures too the text part is read.
"""

import math
from dataclasses import replace

from engine.config import Activation, LayerConfig, ModelConfig, QkNorm, SoftmaxOptions
from engine.families import decoder, keys, rope
from engine.families.family import Family
from engine.families.olmo import with_rope

NAME = "gemma3"
_PATTERN = 6  # every sixth layer sees everything


def read_config(raw: keys.Raw) -> ModelConfig:
    raw = text_config(raw)
    keys.require(raw, "hidden_activation", ("gelu_pytorch_tanh", None))
    keys.require(raw, "use_bidirectional_attention", (False, None))
    for key in ("final_logit_softcapping", "attn_logit_softcapping"):
        keys.require(raw, key, (None,))
    raw = {**_DEFAULTS, **{key: value for key, value in raw.items() if key != "hidden_act"}}
    has_bias = keys.flag(raw, "attention_bias", False)
    options = SoftmaxOptions(
        qk_norm=QkNorm.HEAD,
        qkv_bias=has_bias,
        out_bias=has_bias,
        scale=max(keys.number(raw, "query_pre_attn_scalar"), 1e-9) ** -0.5,
    )
    return decoder.read_config(
        raw,
        NAME,
        _layers(raw, options),
        rope.of_layers(
            raw,
            "full_attention",
            decoder.head_dim(raw),
            keys.number(raw, "rope_theta", 1_000_000.0),
            raw.get("rope_scaling"),
        ),
        tied=True,
        activation=Activation.GELU_TANH,
        output_norms=True,
        norm_offset=1.0,
        embed_scale=math.sqrt(max(keys.integer(raw, "hidden_size"), 1)),
    )


def text_config(raw: keys.Raw) -> keys.Raw:
    """The text part of a model that has others; keys beside it count where it does not say."""
    nested = raw.get("text_config")
    return {**raw, **nested} if isinstance(nested, dict) else raw


# What files of the text part leave unsaid.
_DEFAULTS: keys.Raw = {
    "head_dim": 256,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "vocab_size": 262_208,
    "max_position_embeddings": 131_072,
}


def _layers(raw: keys.Raw, options: SoftmaxOptions) -> list[LayerConfig]:
    count = decoder.num_layers(raw)
    pattern = max(keys.integer(raw, "sliding_window_pattern", _PATTERN), 1)
    sliding = [(layer + 1) % pattern != 0 for layer in range(count)]
    if raw.get("layer_types") is not None:
        sliding = decoder.is_sliding(raw, count)
    theta = keys.number(raw, "rope_local_base_freq", 10_000.0)
    near = rope.of_layers(raw, "sliding_attention", decoder.head_dim(raw), theta, None)
    return [
        with_rope(layer, near) if layer.softmax.window_tokens else replace(layer)
        for layer in decoder.softmax_layers(raw, options, sliding)
    ]


FAMILY = Family(
    NAME,
    ("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"),
    ("gemma3_text", "gemma3"),
    read_config,
    decoder.sources,
)
