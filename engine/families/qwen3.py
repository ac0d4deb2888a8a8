"""Qwen3, dense (arXiv 2505.09388): Llama's shape with an RMSNorm on q and k of each head."""

from engine.config import ModelConfig, QkNorm, SoftmaxOptions
from engine.families import decoder, keys, rope
from engine.families.family import Family

NAME = "qwen3"


def softmax_options(raw: keys.Raw) -> SoftmaxOptions:
    has_bias = keys.flag(raw, "attention_bias", False)
    return SoftmaxOptions(qk_norm=QkNorm.HEAD, qkv_bias=has_bias, out_bias=has_bias)


def read_config(raw: keys.Raw) -> ModelConfig:
    raw = {"head_dim": 128, **raw}
    layers = decoder.softmax_layers(raw, softmax_options(raw))
    found = rope.read(raw, decoder.head_dim(raw), 10_000.0)
    return decoder.read_config(raw, NAME, layers, found)


FAMILY = Family(NAME, ("Qwen3ForCausalLM",), ("qwen3",), read_config, decoder.sources)
