"""IBM Granite 3: Llama's shape with multipliers of embedding, scores, residuals and logits."""

from dataclasses import replace

from engine.config import ModelConfig, Residual, SoftmaxOptions
from engine.families import decoder, keys, rope
from engine.families.family import Family

NAME = "granite"


def read_config(raw: keys.Raw) -> ModelConfig:
    has_bias = keys.flag(raw, "attention_bias", False)
    options = SoftmaxOptions(
        qkv_bias=has_bias, out_bias=has_bias, scale=keys.number(raw, "attention_multiplier", 1.0)
    )
    residual = Residual(beta=keys.number(raw, "residual_multiplier", 1.0))
    layers = [
        replace(layer, attention=residual, mlp=residual)
        for layer in decoder.softmax_layers(raw, options)
    ]
    return decoder.read_config(
        raw,
        NAME,
        layers,
        rope.read(raw, decoder.head_dim(raw), 10_000.0),
        embed_scale=keys.number(raw, "embedding_multiplier", 1.0),
        logit_scale=1 / (keys.number(raw, "logits_scaling", 1.0) or 1.0),
    )


FAMILY = Family(NAME, ("GraniteForCausalLM",), ("granite",), read_config, decoder.sources)
