"""Red here means a layer that forgets what its window hides answers otherwise than one that does
not, or does not forget."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import load_model, mm1_config, write_checkpoint

from engine.context import Context
from engine.layers.kv_cache import KVCache, WindowCache

IDS = torch.randint(4, 290, (60,), generator=torch.Generator().manual_seed(2)).tolist()
NEAR = {"mixer": "softmax", "rotary_dim": 16, "window_tokens": 5, "sink_tokens": 2}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The same weights, in layers that keep everything and in layers that forget."""
    folder = tmp_path_factory.mktemp("near")
    kinds = {"keeps": NEAR, "forgets": NEAR | {"window_always": True}}
    return {
        name: load_model(
            write_checkpoint(
                folder / name, mm1_config(layer_kinds={"near": kind}, layers=["near"] * 2), seed=4
            )
        )
        for name, kind in kinds.items()
    }


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 59), max_size=6), chunk=st.integers(1, 20))
def test_a_layer_that_forgets_equals_one_that_keeps_everything(models, cuts, chunk):
    contexts = {name: Context(model, chunk) for name, model in models.items()}
    for name, context in contexts.items():
        for first, last in zip([0, *sorted(cuts)], [*sorted(cuts), 60], strict=True):
            context.extend(IDS[first:last])
        kind = KVCache if name == "keeps" else WindowCache
        assert all(isinstance(state, kind) for state in context.states)
    kept, forgot = contexts["keeps"].logits, contexts["forgets"].logits
    assert (kept - forgot).abs().max() <= 1e-5 * kept.abs().max()


def test_its_state_does_not_grow(models):
    context = Context(models["forgets"], 16)
    context.extend(IDS[:20])
    size = context.num_bytes
    context.extend(IDS)
    assert context.num_bytes == size == 2 * 2 * (2 + 4) * 2 * 16 * 4


def test_a_question_sees_no_further_than_a_document(models):
    plain, asked = Context(models["forgets"], 16), Context(models["forgets"], 16)
    for context in (plain, asked):
        context.extend(IDS[:40])
    asked.end_of_documents()
    for context in (plain, asked):
        context.extend(IDS[40:])
    assert torch.equal(plain.logits, asked.logits)


def test_a_fork_grows_apart(models):
    context = Context(models["forgets"], 16)
    context.extend(IDS[:30])
    before = context.logits.clone()
    twin = context.fork()
    twin.extend(IDS[30:50])
    again = context.fork()
    again.extend(IDS[30:50])
    assert torch.equal(again.logits, twin.logits)
    assert torch.equal(context.logits, before)


@pytest.mark.parametrize("num_tokens", [1, 5, 6, 7, 40])
def test_what_it_keeps_comes_back(models, num_tokens):
    context = Context(models["forgets"], 16)
    context.extend(IDS[:num_tokens])
    for state in context.states:
        twin = WindowCache(5, 2, torch.empty(0, 2, 16))
        twin.restore(state.tensors(), num_tokens)
        for name, tensor in state.tensors().items():
            assert tensor.shape == (6, 2, 16)
            assert torch.equal(twin.tensors()[name], tensor)
        assert twin.num_tokens == num_tokens
