"""Red here means tokens are read twice, left out, or on another grid than the fingerprint says."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.activations import Activations
from engine.context import Context
from engine.errors import EngineError
from engine.layers.kv_cache import KVCache
from engine.prefill import chunk_major, grid, layer_major
from tests import tiny


@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(1, 600))
def test_chunks_cover_the_range_once_and_meet_at_multiples_of_the_size(start, count, size):
    chunks = list(grid(start, start + count, size))
    covered = [position for first, last in chunks for position in range(first, last)]
    assert covered == list(range(start, start + count))
    assert all(last % size == 0 for _, last in chunks[:-1])
    assert all(0 < last - first <= size for first, last in chunks)


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(1, 600))
def test_a_second_call_goes_on_with_the_grid_of_the_first(first, second, size):
    border = first - first % size
    whole = list(grid(0, border + second, size))
    assert list(grid(0, border, size)) + list(grid(border, border + second, size)) == whole


CONFIGS = {"minimax": tiny.minimax_config(), "llama": tiny.llama_config(), "mm1": tiny.mm1_config()}


@pytest.fixture(scope="module", params=CONFIGS)
def model(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param)
    return tiny.load_model(tiny.write_checkpoint(directory, CONFIGS[request.param]))


@torch.inference_mode()
def run(driver, model, ids, borders, chunk_tokens, **options):
    """Hidden states and final states of `ids` read in stretches that end at `borders`."""
    states, rows, start = model.empty_states(), [], 0
    for end in [*borders, len(ids)]:
        if start < end:
            steps = list(driver(model, states, ids[start:end], start, chunk_tokens, **options))
            rows += [hidden for _, hidden in steps]
            assert steps[-1][0] == end
        start = end
    return torch.cat(rows), states


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 40),
    st.lists(st.integers(0, 90), max_size=2).map(sorted),
    st.booleans(),
)
def test_both_drivers_give_the_same_bits(tmp_path_factory, model, count, size, borders, spilled):
    ids = torch.randint(0, 300, (count,), generator=torch.Generator().manual_seed(count)).tolist()
    borders = [border for border in borders if border < count]
    expected, expected_states = run(chunk_major, model, ids, borders, size)
    options = {}
    if spilled and not borders:
        file = tmp_path_factory.mktemp("spill") / "hidden.bin"
        options["between"] = Activations(count, model.config.hidden_size, model.dtype, file)
    found, found_states = run(layer_major, model, ids, borders, size, **options)
    assert torch.equal(found, expected)
    for found_state, state in zip(found_states, expected_states, strict=True):
        kept, wanted = (
            x.segments() if isinstance(x, KVCache) else [tuple(x.tensors().values())]
            for x in (found_state, state)
        )
        for some, others in zip(kept, wanted, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


def test_a_streamed_model_passes_each_layer_once(model, monkeypatch):
    ids = list(range(50))
    cold = Context(model, 16)
    cold.extend(ids)
    passes = []
    hooks = [
        layer.register_forward_hook(lambda *_, index=index: passes.append(index))
        for index, layer in enumerate(model.layers)
    ]
    monkeypatch.setattr(type(model), "is_streamed", True)
    done, context = [], Context(model, 16)
    context.extend(ids, lambda reached, total: done.append((reached, total)))
    for hook in hooks:
        hook.remove()
    assert passes == sorted(passes)
    assert torch.equal(context.logits, cold.logits)
    assert context.token_ids == ids
    assert done == sorted(done)
    assert done[-1] == (50, 50)


def test_a_streamed_context_interrupted_between_layers_says_so(model, monkeypatch):
    monkeypatch.setattr(type(model), "is_streamed", True)

    def stop(reached, total):
        if reached > total // 2:
            raise KeyboardInterrupt

    context = Context(model, 16)
    with pytest.raises(KeyboardInterrupt):
        context.extend(list(range(50)), stop)
    assert not context.is_whole
    with pytest.raises(EngineError, match="interrupted"):
        context.extend([1])
