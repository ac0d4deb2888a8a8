"""Red here means that a gated delta layer forgets, mixes up or invents what it has read."""

from dataclasses import replace

import pytest
import torch
from measure import relative_rms

from engine.config import DeltaOptions
from engine.layers.delta import DeltaState, GatedDeltaNet

HIDDEN = 48
CPU = torch.device("cpu")
OPTIONS = DeltaOptions(num_key_heads=8, num_value_heads=16, key_dim=16, value_dim=32)


@pytest.fixture(scope="module", params=["by kind", "interleaved", "tiled"])
def layer(request):
    torch.manual_seed(0)
    kind = {"interleaved": request.param == "interleaved", "tiled": request.param == "tiled"}
    made = GatedDeltaNet(HIDDEN, replace(OPTIONS, **kind), 1e-6)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made.requires_grad_(False)


def empty(num_sequences=1):
    return DeltaState.empty(OPTIONS, torch.float32, CPU, num_sequences)


def hidden(*shape, seed=1):
    return torch.randn(*shape, HIDDEN, generator=torch.Generator().manual_seed(seed))


def read(layer, x, state, sizes):
    pieces, start = [], 0
    for piece in x.split(sizes):
        pieces.append(layer(piece, state, start))
        start += len(piece)
    return torch.cat(pieces)


def assert_same(state, other):
    assert state.tensors().keys() == other.tensors().keys()
    assert all(torch.equal(t, other.tensors()[name]) for name, t in state.tensors().items())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100])
def test_chunks_of_any_size_give_the_same(layer, size):
    """Red: the convolution or the recurrence begins anew at a border."""
    x, whole, parts = hidden(150), empty(), empty()
    want = layer(x, whole, 0)
    got = read(layer, x, parts, size)
    assert want.std() > 0.01
    assert relative_rms(got, want) < 1e-5
    assert relative_rms(parts.tensor, whole.tensor) < 1e-5
    assert relative_rms(parts.rows, whole.rows) < 1e-5


def test_sequences_beside_each_other_are_as_alone(layer):
    x, together = hidden(90, 3), empty(3)
    got = read(layer, x, together, [70, 16, 1, 3])
    for at in range(3):
        alone = read(layer, x[:, at], empty(), [70, 16, 1, 3])
        assert relative_rms(got[:, at], alone) < 1e-5


def test_what_was_read_counts(layer):
    """Red: a layer that ignores its state would pass all tests of borders."""
    x = hidden(20)
    state = empty()
    layer(x, state, 0)
    assert relative_rms(layer(x[:4], state, 20), layer(x[:4], empty(), 0)) > 0.1
    fresh = empty()
    fresh.tensor = state.tensor
    assert relative_rms(layer(x[:1], state, 24), layer(x[:1], fresh, 24)) > 0.01


@pytest.mark.parametrize("accepted", range(1, 9))
def test_a_draft_that_is_cut_leaves_the_bits_of_decoding(layer, accepted):
    before = hidden(30)
    decoded = empty()
    layer(before, decoded, 0)
    drafted, x = decoded.fork(), hidden(8, seed=2)
    drafted.keeps_last = True
    rows = layer(x, drafted, 30)
    drafted.cut(8 - accepted)
    alone = [layer(x[t : t + 1], decoded, 30 + t) for t in range(accepted)]
    assert torch.equal(torch.cat(alone), rows[:accepted])
    assert_same(drafted, decoded)
    following = hidden(1, seed=3)
    assert torch.equal(layer(following, drafted, 38), layer(following, decoded, 38))


def test_a_fork_grows_apart(layer):
    state = empty()
    layer(hidden(10), state, 0)
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    twin = state.fork()
    for tokens in (1, 40):
        layer(hidden(tokens, seed=tokens), twin, 10)
    assert all(torch.equal(t, before[name]) for name, t in state.tensors().items())
    assert not torch.equal(twin.tensor, state.tensor)
    assert not torch.equal(twin.rows, state.rows)


def test_a_restored_state_goes_on_bit_by_bit(layer):
    state, restored, x = empty(), empty(), hidden(5, seed=4)
    layer(hidden(33), state, 0)
    tensors = {name: tensor.clone() for name, tensor in state.tensors().items()}
    restored.restore(tensors, 33)
    assert restored.num_bytes == sum(t.nbytes for t in tensors.values()) == empty().num_bytes
    assert torch.equal(layer(x, restored, 33), layer(x, state, 33))
    assert_same(restored, state)


def test_bfloat16_activations_keep_a_float32_state(layer):
    half = GatedDeltaNet(HIDDEN, layer.options, 1e-6)
    half.load_state_dict(layer.state_dict())
    half = half.bfloat16().requires_grad_(False)
    exact, rounded = empty(), DeltaState.empty(OPTIONS, torch.bfloat16, CPU)
    x = hidden(80)
    want = read(layer, x, exact, [70, 10])
    got = read(half, x.bfloat16(), rounded, [70, 10])
    assert got.dtype == rounded.rows.dtype == torch.bfloat16
    assert rounded.tensor.dtype == torch.float32
    assert relative_rms(got, want) < 0.05
