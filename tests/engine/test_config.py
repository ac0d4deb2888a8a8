"""Red here means a config that cannot be a model gets past the one place that checks."""

from dataclasses import FrozenInstanceError, replace

import pytest

from engine.config import LayerConfig, Mixer, ModelConfig
from engine.errors import ConfigError

SOUND = ModelConfig(
    family="minimax",
    vocab_size=320,
    hidden_size=32,
    num_heads=6,
    num_kv_heads=3,
    head_dim=16,
    rotary_frequencies=(1.0, 0.1, 0.01),
    mlp_size=24,
    layers=(LayerConfig(Mixer.LIGHTNING), LayerConfig(Mixer.SOFTMAX), LayerConfig(Mixer.LIGHTNING)),
    num_experts=4,
    num_experts_per_token=2,
    max_positions=4096,
)


def test_derived_values():
    assert SOUND.num_layers == 3
    assert SOUND.rotary_dim == 6
    assert SOUND.attention_size == 96
    assert (SOUND.count(Mixer.LIGHTNING), SOUND.count(Mixer.SOFTMAX)) == (2, 1)


def test_a_config_does_not_change():
    with pytest.raises(FrozenInstanceError):
        SOUND.num_heads = 7


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"vocab_size": 0}, "vocab_size is 0, expected 1 to 16,777,216"),
        ({"hidden_size": -1}, "hidden_size is -1"),
        ({"num_heads": 2**31}, "num_heads is 2.1"),
        ({"head_dim": 2**40}, "head_dim is"),
        ({"mlp_size": 0}, "mlp_size is 0"),
        ({"max_positions": 0}, "max_positions is 0"),
        ({"layers": ()}, "0 layers"),
        ({"layers": SOUND.layers * 400}, "1200 layers"),
        ({"num_kv_heads": 4}, "6 heads do not divide into 4 KV heads"),
        ({"rotary_frequencies": (1.0,) * 9}, "rotary_dim 18 is over head_dim 16"),
        ({"num_experts": -1}, "-1 experts"),
        ({"num_experts": 1025}, "1025 experts"),
        ({"num_experts": 1024, "layers": SOUND.layers * 300}, "131,072 in all"),
        ({"num_experts_per_token": 0}, "0 experts per token of 4"),
        ({"num_experts_per_token": 5}, "5 experts per token of 4"),
        ({"shared_mlp_size": -1}, "shared MLP size is -1"),
        ({"norm_eps": -1e-9}, "eps must not be negative"),
        ({"norm_eps": float("nan")}, "eps must not be negative"),
        ({"lightning_norm_eps": -1.0}, "eps must not be negative"),
    ],
)
def test_what_cannot_be_a_model_is_refused_in_one_line(changes, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        replace(SOUND, **changes)
    assert "\n" not in str(caught.value)
