"""Red here means a layer breaks its contract: any cut of a sequence gives the same answer."""

import math

import pytest
import torch
from measure import relative_rms
from tiny import (
    TRAINED_IDS,
    all_logits,
    llama_config,
    load_model,
    minimax_config,
    mm1_config,
    write_checkpoint,
)

import kernels
from engine.layers.lightning import slopes
from engine.layers.rotary import rotation

CONFIGS = {
    "m1": minimax_config(),
    "shared expert, pre-norm": minimax_config(shared_intermediate_size=20, postnorm=False),
    "five heads": minimax_config(num_attention_heads=5, num_key_value_heads=1),
    "llama": llama_config(),
    "mm1": mm1_config(),
}
IDS = torch.randint(4, 290, (150,), generator=torch.Generator().manual_seed(3)).tolist()


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS)
def model(request, tmp_path):
    return load_model(write_checkpoint(tmp_path / "m", request.param))


def test_decode_prefill_and_every_chunking_agree(model):
    whole = all_logits(model, IDS, 512)
    assert whole.std() > 0.5
    for chunk_tokens, decode_tokens in ((1, 0), (2, 0), (37, 0), (128, 0), (129, 0), (64, 40)):
        got = all_logits(model, IDS, chunk_tokens, decode_tokens)
        assert relative_rms(got, whole) < 1e-5


def test_runs_are_equal_bit_by_bit(model):
    assert torch.equal(all_logits(model, IDS, 32), all_logits(model, IDS, 32))


def test_no_position_sees_the_future(model):
    changed = [*IDS[:100], *[7] * 50]
    before, after = all_logits(model, IDS, 32), all_logits(model, changed, 32)
    assert torch.equal(before[:96], after[:96])
    assert (before[:100] - after[:100]).abs().max() < 1e-4
    assert (before[101:] - after[101:]).abs().amax(dim=1).min() > 1e-3


def test_every_position_sees_the_past(model):
    changed = [9 if IDS[0] != 9 else 8, *IDS[1:]]
    difference = all_logits(model, IDS, 32)[:8] - all_logits(model, changed, 32)[:8]
    assert difference.abs().amax(dim=1).min() > 1e-3


def test_unused_ids_are_the_zero_rows(model):
    assert model.suppressed_ids().nonzero()[:, 0].tolist() == list(range(TRAINED_IDS, 320))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_bfloat16_products_give_the_same_answer_coarsely_in_float32_logits(tmp_path, config):
    """The way of GPUs; a token whose router is undecided may take another expert."""
    directory = write_checkpoint(tmp_path / "m", config)
    want = all_logits(load_model(directory), IDS, 64, 10)
    got = all_logits(load_model(directory, torch.bfloat16), IDS, 64, 10)
    assert got.dtype == torch.float32
    rows = [relative_rms(ours, theirs) for ours, theirs in zip(got, want, strict=True)]
    assert sorted(rows)[len(rows) // 2] < 0.05


@pytest.mark.parametrize(
    ("num_heads", "base"),
    [
        (1, [2**-8]),
        (4, [0.25, 0.0625, 2**-6, 2**-8]),
        (6, [0.25, 0.0625, 2**-6, 2**-8, 0.5, 0.125]),
        (3, [2**-4, 2**-8, 0.25]),
    ],
)
@pytest.mark.parametrize("layer", [0, 2, 4])
def test_slopes_are_those_of_alibi_times_the_layer_factor(num_heads, base, layer):
    want = torch.tensor(base) * (1 - layer / 4 + 1e-5)
    assert torch.allclose(slopes(num_heads, layer, 5), want, rtol=1e-6, atol=0)


def test_one_layer_alone_has_a_slope():
    assert slopes(4, 0, 1).isfinite().all()


def test_rotation_is_exact_at_a_million_tokens():
    """float32 angles would be wrong in the second digit there."""
    frequencies = (1.0, 0.3)
    cosine, sine = rotation(frequencies, 999_999, 2, torch.device("cpu"))
    for row, position in enumerate((999_999, 1_000_000)):
        for pair, frequency in enumerate(frequencies):
            assert cosine[row, 0, pair].item() == pytest.approx(math.cos(position * frequency))
            assert sine[row, 0, pair].item() == pytest.approx(math.sin(position * frequency))


def test_rotate_turns_pairs_half_the_width_apart_and_leaves_the_rest():
    x = torch.arange(1.0, 7.0).view(1, 1, 6)
    turned = kernels.rotate(x, *rotation((math.pi / 2, math.pi), 1, 1, torch.device("cpu")))
    assert torch.allclose(turned[0, 0], torch.tensor([-3.0, -2.0, 1.0, -4.0, 5.0, 6.0]), atol=1e-5)
