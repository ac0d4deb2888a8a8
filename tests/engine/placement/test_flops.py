"""Red here means a plan, or the log of a training run, tells of work that is not done."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import LIGHTNING, WINDOWED, llama_config, mm1_config, write_checkpoint

from engine.config import Mixer
from engine.families import read_config
from engine.placement.flops import of_layers, of_mixer, of_model

SHIPPED = Path(__file__).parents[3] / "mm1cli" / "models" / "mini-hybrid"
BLOCK = 128


@pytest.fixture(scope="module")
def shipped():
    return read_config(SHIPPED)


def test_the_shipped_model_costs_what_its_shapes_say(shipped):
    """576 wide, 9 heads of 64 and 3 of keys, MLPs of 1,536; lightning but for windowed layers."""
    count, width, keys, mlp = 8192, 576, 192, 3 * 576 * 1536
    window = next(x.softmax.window_tokens for x in shipped.layers if x.softmax.window_tokens)
    seen = window + next(x.softmax.sink_tokens for x in shipped.layers if x.softmax.window_tokens)
    total = 0
    for layer in shipped.layers:
        if layer.mixer is Mixer.LIGHTNING:
            total += count * (2 * 5 * width * width + 4 * width * (BLOCK + 64))
            continue
        most = seen if layer.softmax.window_tokens else count
        matrices = 2 * width * ((2 + layer.softmax.output_gate) * width + 2 * keys)
        pairs = sum(min(position + 1, most) for position in range(count))
        total += count * matrices + 4 * width * pairs
    total += count * 2 * mlp * shipped.num_layers
    head = 2 * width * shipped.vocab_size
    assert of_model(shipped, count, num_scored=0).total == total
    assert of_model(shipped, count).total == total + head
    assert of_model(shipped, count, num_scored=count).total == total + count * head


@given(st.integers(1, 60), st.integers(0, 60))
def test_what_is_read_in_two_parts_costs_what_it_does_at_once(folder, first, then):
    """Red: a window is counted as if it began anew, or a token does not see those before it."""
    config = read_config(folder)
    whole, one, two = (
        of_model(config, count, before=before).softmax
        for count, before in ((first + then, 0), (first, 0), (then, first))
    )
    assert whole == one + two > 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("softmax")
    write_checkpoint(folder, mm1_config(layer_kinds={"near": WINDOWED}, layers=["near", "near"]))
    return folder


def test_windows_and_lightning_cost_the_same_for_every_token(tmp_path):
    kinds = {"local": LIGHTNING, "near": WINDOWED}
    write_checkpoint(tmp_path, mm1_config(layer_kinds=kinds, layers=["local", "near"]))
    config = read_config(tmp_path)
    one, two = (of_model(config, count, num_scored=0).total for count in (2000, 4000))
    assert two == pytest.approx(2 * one, rel=0.002)


def test_a_model_is_its_layers_and_a_layer_its_mixer_and_its_mlp(tmp_path):
    write_checkpoint(tmp_path, llama_config())
    config = read_config(tmp_path)
    layers = of_layers(config, 20, 5)
    whole = of_model(config, 20, before=5, num_scored=0)
    assert whole.total == sum(layer.total for layer in layers)
    mlp = 20 * 6 * config.hidden_size * config.mlp_size
    assert [layer.total - mlp for layer in layers] == [
        of_mixer(config, index, 20, 5).total for index in range(config.num_layers)
    ]
