"""OLMo 2 and 3 (arXiv 2501.00656): norms behind mixer and MLP instead of before, RMSNorm on q and k
over all heads; OLMo 3 has a window in three of four layers."""

from dataclasses import replace

from engine.config import LayerConfig, ModelConfig, QkNorm, SoftmaxOptions
from engine.families import decoder, keys, rope
from engine.families.family import Family

NAME_2, NAME_3 = "olmo2", "olmo3"
_THETA = {NAME_2: 10_000.0, NAME_3: 500_000.0}


def read_config_2(raw: keys.Raw) -> ModelConfig:
    layers = decoder.softmax_layers(raw, _options(raw))
    return _model(raw, NAME_2, layers, rope.read(raw, decoder.head_dim(raw), _THETA[NAME_2]))


def read_config_3(raw: keys.Raw) -> ModelConfig:
    count, dim = decoder.num_layers(raw), decoder.head_dim(raw)
    theta, scaling = keys.number(raw, "rope_theta", _THETA[NAME_3]), raw.get("rope_scaling")
    sliding = [(layer + 1) % 4 != 0 for layer in range(count)]
    if raw.get("layer_types") is not None:
        sliding = decoder.is_sliding(raw, count)
    # Scaling is for the layers that see everything; a window never reaches beyond what was trained.
    full = rope.of_layers(raw, "full_attention", dim, theta, scaling)
    near = rope.of_layers(raw, "sliding_attention", dim, theta, None)
    layers = [
        with_rope(layer, near) if one else layer
        for layer, one in zip(
            decoder.softmax_layers(raw, _options(raw), sliding), sliding, strict=True
        )
    ]
    return _model(raw, NAME_3, layers, full)


def with_rope(layer: LayerConfig, own: rope.Rope) -> LayerConfig:
    """`layer` with frequencies and attention factor of its own."""
    options = replace(
        layer.softmax,
        rotary_frequencies=own.frequencies,
        attention_factor=own.attention_factor,
    )
    return replace(layer, softmax=options)


def _options(raw: keys.Raw) -> SoftmaxOptions:
    has_bias = keys.flag(raw, "attention_bias", False)
    return SoftmaxOptions(qk_norm=QkNorm.FULL, qkv_bias=has_bias, out_bias=has_bias)


def _model(
    raw: keys.Raw, name: str, layers: "tuple[LayerConfig, ...] | list[LayerConfig]", own: rope.Rope
) -> ModelConfig:
    return decoder.read_config(
        raw, name, layers, own, eps=1e-5, input_norms=False, output_norms=True
    )


FAMILY_2 = Family(NAME_2, ("Olmo2ForCausalLM",), (NAME_2,), read_config_2, decoder.sources)
FAMILY_3 = Family(NAME_3, ("Olmo3ForCausalLM",), (NAME_3,), read_config_3, decoder.sources)
