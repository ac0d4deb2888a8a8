"""Qwen2 and Qwen2.5 (arXiv 2407.10671, 2412.15115): Llama's shape with biases on q, k and v."""

from engine.config import ModelConfig, SoftmaxOptions
from engine.families import decoder, keys, rope
from engine.families.family import Family

NAME = "qwen2"


def read_config(raw: keys.Raw) -> ModelConfig:
    layers = decoder.softmax_layers(raw, SoftmaxOptions(qkv_bias=True))
    found = rope.read(raw, decoder.head_dim(raw), 10_000.0)
    return decoder.read_config(raw, NAME, layers, found)


FAMILY = Family(NAME, ("Qwen2ForCausalLM",), ("qwen2",), read_config, decoder.sources)
