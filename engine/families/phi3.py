"""Phi-3, Phi-3.5, Phi-4 and Phi-4-mini (arXiv 2404.14219, 2412.08905): Llama's shape, with q, k
and v in one tensor, gate and up in one, and in some LongRoPE."""

from functools import partial

from engine.config import ModelConfig, SoftmaxOptions
from engine.families import decoder, keys, rope
from engine.families.family import Family

NAME = "phi3"


def read_config(raw: keys.Raw) -> ModelConfig:
    sliding = [raw.get("sliding_window") is not None] * decoder.num_layers(raw)
    layers = decoder.softmax_layers(raw, SoftmaxOptions(), sliding)
    found = rope.read(raw, rope.rotary_dim(raw, decoder.head_dim(raw)), 10_000.0)
    return decoder.read_config(raw, NAME, layers, found, eps=1e-5)


FAMILY = Family(
    NAME,
    ("Phi3ForCausalLM",),
    ("phi3",),
    read_config,
    partial(decoder.sources, is_fused=True),
)
