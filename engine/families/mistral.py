"""Mistral (arXiv 2310.06825): Llama's shape, in early models with a window in every layer."""

from engine.config import ModelConfig, SoftmaxOptions
from engine.families import decoder, keys, rope
from engine.families.family import Family

NAME = "mistral"


def read_config(raw: keys.Raw) -> ModelConfig:
    sliding = [raw.get("sliding_window") is not None] * decoder.num_layers(raw)
    if raw.get("layer_types") is not None:
        sliding = decoder.is_sliding(raw, len(sliding))
    layers = decoder.softmax_layers(raw, SoftmaxOptions(), sliding)
    found = rope.read(raw, decoder.head_dim(raw), 10_000.0)
    return decoder.read_config(raw, NAME, layers, found)


FAMILY = Family(NAME, ("MistralForCausalLM",), ("mistral",), read_config, decoder.sources)
