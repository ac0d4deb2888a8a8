"""Llama-shaped checkpoints (Llama 2 and 3, SmolLM2): pre-norm, full attention, a dense SwiGLU."""

from engine.config import ModelConfig, SoftmaxOptions
from engine.families import decoder, keys, rope
from engine.families.family import Family

NAME = "llama"


def read_config(raw: keys.Raw) -> ModelConfig:
    has_bias = keys.flag(raw, "attention_bias", False)
    layers = decoder.softmax_layers(raw, SoftmaxOptions(qkv_bias=has_bias, out_bias=has_bias))
    raw = {"max_position_embeddings": 2048, **raw}
    found = rope.read(raw, decoder.head_dim(raw), 10_000.0)
    return decoder.read_config(raw, NAME, layers, found)


FAMILY = Family(NAME, ("LlamaForCausalLM",), ("llama",), read_config, decoder.sources)
