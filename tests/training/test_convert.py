"""Red here means the hybrid does not start from its parent's weights."""

import pytest
import torch
from measure import relative_rms
from tiny import all_logits, llama_config, load_model, minimax_config, write_config

from engine.config import Mixer
from engine.families import read_config
from training.convert import SMOLLM2_KEPT, ConversionConfig, convert, hybrid_config, match_variance
from training.export import write_model
from training.teacher import capture_mixer_io

IDS = torch.randint(4, 290, (80,), generator=torch.Generator().manual_seed(3))
CONFIG = llama_config(num_hidden_layers=4, head_dim=16)


def hybrid_of(parent, kept):
    return convert(parent, hybrid_config(CONFIG, ConversionConfig.parse(kept)))


@pytest.fixture
def model(parent):
    return load_model(parent)


def test_a_hybrid_that_keeps_every_layer_is_its_parent(model):
    hybrid = hybrid_of(model, "0,1,2,3")
    want = all_logits(model, IDS.tolist(), 32)
    assert relative_rms(all_logits(hybrid, IDS.tolist(), 32), want) < 1e-6


def test_dropped_rotation_is_that_of_the_slowest_pairs(model):
    """At distances of a few tokens the slow pairs hardly turn: the outputs stay alike."""
    ids = IDS[:6].tolist()
    want = all_logits(model, ids, 32)
    errors = [
        relative_rms(all_logits(hybrid_of(model, f"0:{dim},1,2,3"), ids, 32), want)
        for dim in (16, 12, 8, 0)
    ]
    assert errors[0] < 1e-6 < errors[1] < 0.05
    assert errors[1] < errors[2] < errors[3]


def test_lightning_layers_hold_the_heads_of_the_parent(model):
    hybrid = hybrid_of(model, "3")
    origin, mixer = model.layers[0].mixer, hybrid.layers[0].mixer
    hidden = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    ours = (hidden @ mixer.qkv.T).view(5, 4, 3, 16)
    theirs = (hidden @ origin.qkv.T).view(5, 8, 16)
    for head in range(4):
        for part, row in enumerate((head, 4 + head // 2, 6 + head // 2)):
            assert torch.allclose(ours[:, head, part], theirs[:, row], atol=1e-5)
    assert torch.equal(mixer.out, origin.out)
    assert not mixer.gate.any()
    assert hybrid.config.count(Mixer.LIGHTNING) == 3


def test_outputs_start_with_the_variance_of_the_teacher(model):
    hybrid = hybrid_of(model, "1")
    match_variance(hybrid, model, IDS)
    states = hybrid.empty_states()
    for index, (seen, wanted) in enumerate(capture_mixer_io(model, IDS)):
        if hybrid.config.layers[index].mixer is Mixer.LIGHTNING:
            with torch.no_grad():
                got = hybrid.layers[index].mixer(seen, states[index], 0)
            assert (got.var() / wanted.var()).item() == pytest.approx(1, abs=1e-3)


def test_what_is_no_mixer_is_shared(model):
    hybrid = hybrid_of(model, "1")
    own, origin = dict(hybrid.named_parameters()), dict(model.named_parameters())
    shared = [name for name in own if ".mixer." not in name]
    assert len(shared) > 10
    assert all(own[name].data_ptr() == origin[name].data_ptr() for name in shared)


def test_a_written_hybrid_is_read_back_as_it_was(model, parent, tmp_path):
    config = hybrid_config(CONFIG, ConversionConfig.parse("1:8,3:0"))
    hybrid = convert(model, config)
    for _ in range(2):  # the second replaces the first
        write_model(hybrid, config, parent, tmp_path / "model")
    assert read_config(tmp_path / "model") == hybrid.config
    want = all_logits(hybrid, IDS.tolist(), 32)
    assert torch.equal(all_logits(load_model(tmp_path / "model"), IDS.tolist(), 32), want)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_window_as_long_as_the_text_changes_nothing_and_a_short_one_does(model):
    want = all_logits(model, IDS.tolist(), 32)
    wide, narrow, sunk = (
        relative_rms(all_logits(hybrid_of(model, f"0:16w{window},1,2,3"), IDS.tolist(), 32), want)
        for window in ("80", "8", "8+72")
    )
    assert wide < 1e-5
    assert sunk < 1e-5 < narrow


def test_an_output_gate_starts_by_changing_nothing(model):
    hybrid = hybrid_of(model, "0:16g,1:g,2,3")
    assert hybrid.layers[0].config.softmax.output_gate
    want = all_logits(model, IDS.tolist(), 32)
    assert relative_rms(all_logits(hybrid, IDS.tolist(), 32), want) < 1e-6


def test_the_recipe_says_what_the_engine_reads(tmp_path):
    write_config(tmp_path, hybrid_config(CONFIG, ConversionConfig.parse("0:8w64+4g,1:w32,3")))
    first, second, third, last = read_config(tmp_path).layers
    options = first.softmax
    assert (options.window_tokens, options.sink_tokens, options.output_gate) == (64, 4, True)
    assert len(options.rotary_frequencies) == 4
    assert (second.softmax.window_tokens, second.softmax.sink_tokens) == (32, 0)
    assert len(second.softmax.rotary_frequencies) == 8
    assert third.mixer is Mixer.LIGHTNING
    assert (last.softmax.window_tokens, last.softmax.output_gate) == (0, False)


@pytest.mark.parametrize("kept", ["x", "1:a", "1:2:3", "1:8w", "1:8w0", "1:8+4", "-1", "1,1"])
def test_layers_that_are_no_numbers_are_refused(kept):
    with pytest.raises(ValueError, match="layers to keep"):
        ConversionConfig.parse(kept)


def test_a_layer_or_parent_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="layer 4 of 4 cannot be kept"):
        hybrid_config(CONFIG, ConversionConfig.parse("4"))
    with pytest.raises(ValueError, match="must be a llama checkpoint, not minimax"):
        hybrid_config(minimax_config(), ConversionConfig.parse("1"))


def test_the_parent_of_the_embedded_model_keeps_eight_layers(tmp_path):
    config = llama_config(num_hidden_layers=30, hidden_size=576, num_attention_heads=9)
    config |= {"num_key_value_heads": 3, "head_dim": 64, "rope_theta": 1e5}
    kept = f"{SMOLLM2_KEPT},7:32,6:0"  # and two that lose some or all of their rotation
    write_config(tmp_path, hybrid_config(config, ConversionConfig.parse(kept)))
    layers = read_config(tmp_path).layers
    softmax = [n for n, layer in enumerate(layers) if layer.mixer is Mixer.SOFTMAX]
    assert softmax == [6, 7, 8, 9, 10, 15, 18, 20, 21, 23]
    rotated = [layers[n].softmax.rotary_frequencies for n in softmax]
    fast = [1e5 ** (-2 * pair / 64) for pair in range(32)]
    assert [len(frequencies) for frequencies in rotated] == [0, 16] + [32] * 8
    assert rotated[1] == pytest.approx(fast[:16])
    assert rotated[2] == pytest.approx(fast)
    assert layers[0].lightning.rotary_frequencies == pytest.approx(fast)
    assert layers[0].lightning.scale == 0.125
