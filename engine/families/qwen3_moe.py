"""Qwen3 with a mixture of experts (arXiv 2505.09388): Qwen3's attention, no shared expert."""

from dataclasses import replace

from engine.config import LayerConfig, ModelConfig
from engine.errors import ConfigError
from engine.families import decoder, keys, rope
from engine.families.family import Family
from engine.families.qwen3 import softmax_options

NAME = "qwen3_moe"


def read_config(raw: keys.Raw) -> ModelConfig:
    sliding = [keys.flag(raw, "use_sliding_window", False)] * decoder.num_layers(raw)
    layers = decoder.softmax_layers(raw, softmax_options(raw), sliding)
    found = rope.read(raw, decoder.head_dim(raw), 10_000.0)
    return decoder.read_config(
        raw,
        NAME,
        with_dense_layers(raw, layers),
        found,
        mlp_size=keys.integer(raw, "moe_intermediate_size"),
        num_experts=_num_experts(raw),
        num_experts_per_token=keys.integer(raw, "num_experts_per_tok"),
        normalize_router=keys.flag(raw, "norm_topk_prob", False),
    )


def _num_experts(raw: keys.Raw) -> int:
    """`num_experts` as published, `num_local_experts` in files that newer transformers write."""
    published = "num_experts" in raw or "num_local_experts" not in raw
    return keys.integer(raw, "num_experts" if published else "num_local_experts")


def with_dense_layers(raw: keys.Raw, layers: tuple[LayerConfig, ...]) -> tuple[LayerConfig, ...]:
    """A dense MLP in `mlp_only_layers`, and in all but every `decoder_sparse_step`-th layer."""
    step, dense = keys.integer(raw, "decoder_sparse_step", 1), raw.get("mlp_only_layers") or []
    if step < 1 or not isinstance(dense, list):
        raise ConfigError("config: mlp_only_layers must be a list, decoder_sparse_step 1 or more")
    size = keys.integer(raw, "intermediate_size")
    return tuple(
        replace(layer, dense_mlp_size=size) if index in dense or (index + 1) % step else layer
        for index, layer in enumerate(layers)
    )


FAMILY = Family(NAME, ("Qwen3MoeForCausalLM",), ("qwen3_moe",), read_config, decoder.sources)
