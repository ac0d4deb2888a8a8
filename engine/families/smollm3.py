"""SmolLM3: Llama's shape, without rotation in every fourth layer (NoPE, arXiv 2501.18795)."""

from dataclasses import replace

from engine.config import LayerConfig, ModelConfig, SoftmaxOptions
from engine.errors import ConfigError
from engine.families import decoder, keys, rope
from engine.families.family import Family

NAME = "smollm3"


def read_config(raw: keys.Raw) -> ModelConfig:
    has_bias, rotated = keys.flag(raw, "attention_bias", False), _rotated(raw)
    uses = keys.flag(raw, "use_sliding_window", False) and raw.get("sliding_window") is not None
    sliding = [uses and not turns for turns in rotated]
    if raw.get("layer_types") is not None:
        sliding = [uses and one for one in decoder.is_sliding(raw, len(rotated))]
    options = SoftmaxOptions(qkv_bias=has_bias, out_bias=has_bias)
    layers = decoder.softmax_layers(raw, options, sliding)
    found = rope.read(raw, decoder.head_dim(raw), 2_000_000.0)
    mixed = [
        layer if turns else _unrotated(layer) for layer, turns in zip(layers, rotated, strict=True)
    ]
    return decoder.read_config(raw, NAME, mixed, found, tied=True)


def _unrotated(layer: LayerConfig) -> LayerConfig:
    return replace(layer, softmax=replace(layer.softmax, rotary_frequencies=()))


def _rotated(raw: keys.Raw) -> list[bool]:
    count, told = decoder.num_layers(raw), raw.get("no_rope_layers")
    if told is None:
        interval = keys.integer(raw, "no_rope_layer_interval", 4)
        if interval < 1:
            raise ConfigError(f"config: no_rope_layer_interval is {interval:.9g}")
        return [(layer + 1) % interval != 0 for layer in range(count)]
    if not isinstance(told, list) or len(told) != count or set(told) - {0, 1}:
        raise ConfigError(f"config: no_rope_layers must list {count} times 1 (rotated) or 0")
    return [turns == 1 for turns in told]


FAMILY = Family(NAME, ("SmolLM3ForCausalLM",), ("smollm3",), read_config, decoder.sources)
