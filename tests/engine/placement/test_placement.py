"""Red here means a run starts that cannot fit, or one that fits is refused."""

import pytest
import torch
from tiny import EXPERTS, llama_config, load_model, minimax_config, mm1_config, write_checkpoint

from engine import placement
from engine.checkpoint import Checkpoint
from engine.context import Context
from engine.errors import PlacementError
from engine.families import read_config
from engine.layers.kv_cache import KVCache
from engine.placement import memory
from engine.weights import load

CONFIGS = {
    "m1": minimax_config(shared_intermediate_size=20),
    "six heads": minimax_config(num_attention_heads=6, num_key_value_heads=3),
    "tied llama": llama_config(),
    "untied llama": llama_config(tie_word_embeddings=False),
    "mm1": mm1_config(),
    "mm1 with experts": mm1_config(**EXPERTS),
}


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS)
def directory(request, tmp_path):
    return write_checkpoint(tmp_path / "m", request.param)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_counted_to_the_byte(directory, dtype):
    config = read_config(directory)
    model = load(Checkpoint(directory), config, device=torch.device("cpu"), dtype=dtype)
    model.prepare_for_inference()
    held = sum(parameter.nbytes for parameter in model.parameters())
    assert placement.plan(config, 0, 16, dtype).weights_bytes == held


@pytest.mark.parametrize("num_tokens", [0, 1, 300, 4096, 4097])
def test_kv_and_states_are_those_of_a_context_of_that_length(directory, num_tokens):
    config = read_config(directory)
    context = Context(load_model(directory), 512)
    context.extend([5] * num_tokens)
    kv_bytes = sum(state.num_bytes for state in context.states if isinstance(state, KVCache))
    fixed = [state for state in context.states if not isinstance(state, KVCache)]
    fixed_bytes = sum(tensor.nbytes for state in fixed for tensor in state.tensors().values())
    planned = placement.plan(config, num_tokens, 512, torch.float32)
    assert planned.kv_bytes == kv_bytes
    assert planned.state_bytes == 2 * fixed_bytes
    assert (kv_bytes > 0) == (num_tokens > 0)


def test_activations_are_an_upper_bound_of_what_a_chunk_takes(directory):
    config, model = read_config(directory), load_model(directory)
    context = Context(model, 256)
    context.extend([5])
    with torch.profiler.profile(profile_memory=True) as profile:
        context.extend(list(range(4, 259)))
    held, peak = 0, 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    planned = placement.plan(config, 256, 256, torch.float32)
    assert 0 < peak < planned.total_bytes - planned.weights_bytes


GB = 10**9


def placed(*parts):
    return placement.Placement((placement.DeviceBytes("RAM", None, *parts),))


def test_the_parts_are_the_total():
    planned = placed(1, 20, 300, 4000, 50_000)
    assert planned.total_bytes == 54_321


@pytest.mark.parametrize(("held", "fits"), [(0, False), (GB // 2, False), (GB, True)])
def test_what_does_not_fit_is_refused_with_the_sum(monkeypatch, held, fits):
    monkeypatch.setattr(memory, "available_bytes", lambda device: 9 * GB)
    planned = placed(5 * GB, 0, 3 * GB, GB, GB)
    if fits:
        placement.check(planned, torch.device("cpu"), held)
        return
    with pytest.raises(PlacementError) as caught:
        placement.check(planned, torch.device("cpu"), held)
    free = (9 * GB + held) / GB
    assert str(caught.value) == (
        "needs 10.0 GB = weights 5.0 + KV 3.0 + states 1.0 + activations 1.0, but "
        f"RAM has {free:.1f} GB free; read less, or use a smaller model"
    )


def test_what_is_available_is_real_memory():
    available = placement.available_bytes(torch.device("cpu"))
    assert 2**20 < available < 2**60
