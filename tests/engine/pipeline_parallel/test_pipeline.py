"""Red here means several devices give other answers than one, wait for each other, or hang."""

import threading
from collections import Counter
from functools import cache
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import ends, others_alive
from tiny import llama_config, minimax_config, mm1_config, write_checkpoint

from engine.api import ContextPlan
from engine.checkpoint import Checkpoint
from engine.context import Context
from engine.decode import EagerDecodeLoop, Sampler, Sampling
from engine.engine import Engine
from engine.errors import EngineError
from engine.families import read_config
from engine.layers import kv_cache
from engine.layers.kv_cache import KVCache
from engine.pipeline_parallel import model as staged
from engine.pipeline_parallel import pipeline
from engine.pipeline_parallel.model import Stage, StagedModel
from engine.pipeline_parallel.pipeline import WAITING_CHUNKS, by_stage, pipelined
from engine.prefill import PrefillRequest, chunk_major
from engine.weights import load

CPU = torch.device("cpu")
CONFIGS = {
    "minimax": minimax_config(),
    "llama": llama_config(num_hidden_layers=3),
    "mm1": mm1_config(),
}


@pytest.fixture(scope="module", params=CONFIGS)
def directory(request, tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp(request.param), CONFIGS[request.param])


@pytest.fixture(scope="module")
def minimax(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("minimax"), CONFIGS["minimax"])


@pytest.fixture(autouse=True)
def blocks_of_8(monkeypatch):
    monkeypatch.setattr(kv_cache, "BLOCK_TOKENS", 8)


@pytest.fixture(autouse=True)
def none_left_behind():
    yield
    assert not others_alive()


def loaded(directory, *cuts):
    """The model in stages that end at layers `cuts` and at the last one; in one without cuts."""
    config = read_config(directory)
    borders = [0, *cuts, config.num_layers]
    stages = [Stage(*layers, CPU) for layers in pairwise(borders)] if cuts else []
    how = {"device": CPU, "dtype": torch.float32, "stages": stages}
    return load(Checkpoint(directory), config, **how)


kept = cache(loaded)  # where nothing is hooked into it


def ids_of(count):
    return [(7 * i + i * i) % 290 for i in range(count)]


def tensors(state):
    if not isinstance(state, KVCache):
        return list(state.tensors().values())
    sides = [torch.cat(side) for side in zip(*state.segments(), strict=True)]
    return [torch.tensor(state.num_tokens), *sides]


def assert_same(states, wanted):
    for state, other in zip(states, wanted, strict=True):
        for x, y in zip(tensors(state), tensors(other), strict=True):
            assert torch.equal(x, y)


def every_step(driver):
    """All that a driver gives: position, hidden rows, and the states there."""
    return [(last, hidden.clone(), states()) for last, hidden, states in driver]


@torch.inference_mode()
def one_by_one(model, ids, borders, chunk_tokens):
    states, start = model.empty_states(), 0
    for end in borders:
        for step in chunk_major(model, states, ids[start:end], start, chunk_tokens):
            yield *step, lambda: [state.fork() for state in states]
        start = end


@torch.inference_mode()
def in_stages(model, ids, borders, chunk_tokens):
    states, start = model.empty_states(), 0
    for end in borders:
        for step in pipelined(model, PrefillRequest(states, ids[start:end], start, chunk_tokens)):
            yield *step, lambda: [state.fork() for state in states]
        start = end


@settings(max_examples=8, deadline=None)
@given(
    st.integers(1, 70),
    st.integers(1, 25),
    st.sets(st.integers(1, 69), max_size=2),
    st.sets(st.integers(1, 4), min_size=1),
)
def test_stages_give_the_bits_of_one_device_after_every_chunk(
    directory, count, size, borders, cuts
):
    """Hidden rows and the states of all layers, although some stages are chunks ahead."""
    one = kept(directory)
    several = kept(directory, *sorted({1 + cut % (one.config.num_layers - 1) for cut in cuts}))
    borders = [*sorted(border for border in borders if border < count), count]
    want = every_step(one_by_one(one, ids_of(count), borders, size))

    @ends
    def compare():
        found = every_step(in_stages(several, ids_of(count), borders, size))
        for (last, hidden, states), (position, rows, wanted) in zip(found, want, strict=True):
            assert last == position
            assert torch.equal(hidden, rows)
            assert_same(states, wanted)

    compare()


@ends
def test_several_contexts_pass_through_the_stages_at_once(directory):
    """What each yields is what it would alone, int8 keys included; only its own states move."""
    one, several = loaded(directory), loaded(directory, 1, 2)
    lengths = (11, 1, 30)
    contexts = [[Context(model, 16, torch.int8) for _ in lengths] for model in (one, several)]
    for context in (*contexts[0], *contexts[1]):
        context.extend(ids_of(21))
    stretches = [
        PrefillRequest(context.states, ids_of(length), 21, 16)
        for context, length in zip(contexts[1], lengths, strict=True)
    ]
    with torch.inference_mode():
        found = [(which, hidden) for which, _, hidden in by_stage(several, stretches)]
    for which, (context, length) in enumerate(zip(contexts[0], lengths, strict=True)):
        want = [hidden for _, hidden in context.chunks(ids_of(length))]
        got = [hidden for owner, hidden in found if owner == which]
        assert all(torch.equal(x, y) for x, y in zip(got, want, strict=True))
        for state, other in zip(stretches[which].states, context.states, strict=True):
            if not isinstance(state, KVCache):
                assert_same([state], [other])
            else:
                assert state.num_tokens == other.num_tokens


def watched(model, on_layer):
    """Calls `on_layer(layer index, states, start)` before each layer runs."""
    for index, layer in enumerate(model.layers):
        layer.register_forward_pre_hook(
            lambda _, args, index=index: on_layer(index, args[1], args[2])
        )


@ends
def test_weights_and_states_are_touched_by_their_own_thread_alone(directory, monkeypatch):
    model = loaded(directory, 1, 2)
    touched, handed = {}, []
    watched(
        model,
        lambda index, state, start: touched.setdefault(index, set()).add(
            (threading.current_thread().name, id(state))
        ),
    )
    real = staged.send
    monkeypatch.setattr(
        staged,
        "send",
        lambda hidden, device: handed.append((tuple(hidden.shape), device)) or real(hidden, device),
    )
    context = Context(model, 8)
    context.extend(ids_of(8 * 6 - 3))
    stage_of = [number for number, s in enumerate(model.stages) for _ in range(s.first, s.last)]
    for index, seen in touched.items():
        assert len(seen) == 1, "another thread, or another state"
        assert next(iter(seen))[0] == f"stage {stage_of[index]}"
    assert len(handed) == (3 - 1) * 6
    assert Counter(handed)[(8, 32), CPU] == (3 - 1) * 5
    handed.clear()
    context.extend([5])
    assert handed == [((1, 32), CPU)] * 2, "a written token passes one row from stage to stage"


@ends
def test_stages_work_at_the_same_time_and_never_far_apart(minimax):
    """Stage 0 waits at chunk c + 1 for stage 1 to be at chunk c: in turns neither would come."""
    model = loaded(minimax, 2)
    meeting, lead = threading.Barrier(2), []
    reached = [0, 0]

    def meet(index, state, start):
        number = start // 8
        if index == 0:
            reached[0] = number
            lead.append(reached[0] - reached[1])
        if index == 2:
            reached[1] = number
        if (index, number) in {(0, n) for n in range(1, 4)} | {(2, n) for n in range(3)}:
            meeting.wait(timeout=20)

    watched(model, meet)
    Context(model, 8).extend(ids_of(8 * 12))
    assert not meeting.broken
    assert 1 <= max(lead) <= WAITING_CHUNKS + 2


@ends
@pytest.mark.parametrize("layer", range(4))
@pytest.mark.parametrize("chunk", [0, 3, 9])
def test_an_error_in_any_stage_stops_all_and_leaves_a_context_that_says_so(minimax, layer, chunk):
    model = loaded(minimax, 1, 3)

    def fail(index, state, start):
        if index == layer and start == 8 * chunk:
            raise RuntimeError("no memory left")

    watched(model, fail)
    context, done = Context(model, 8), []
    with pytest.raises(RuntimeError, match="no memory left"):
        context.extend(ids_of(80), lambda reached, total: done.append(reached))
    assert not others_alive()
    assert len(done) <= chunk
    assert not context.is_whole
    with pytest.raises(EngineError, match="interrupted"):
        context.extend([1])


@ends
def test_an_interrupt_while_waiting_for_a_stage_does_the_same(minimax, monkeypatch):
    model = loaded(minimax, 1, 3)
    real, calls = pipeline._Lines.get, []

    def get(self, line):
        if line == 2:
            calls.append(line)
            if len(calls) == 3:
                raise KeyboardInterrupt
        return real(self, line)

    monkeypatch.setattr(pipeline._Lines, "get", get)
    context = Context(model, 8)
    with pytest.raises(KeyboardInterrupt):
        context.extend(ids_of(80))
    assert not others_alive()
    assert not context.is_whole


@ends
@pytest.mark.parametrize("chunk", [1, 4, 10])
def test_an_interrupt_between_chunks_leaves_a_whole_context_that_goes_on(directory, chunk):
    one, several = loaded(directory), loaded(directory, 1, 2)
    ids = ids_of(80)
    want = Context(one, 8)
    want.extend(ids)

    def stop(reached, total):
        if reached == 8 * chunk:
            raise KeyboardInterrupt

    context = Context(several, 8)
    with pytest.raises(KeyboardInterrupt):
        context.extend(ids, stop)
    assert not others_alive()
    assert context.is_whole
    assert len(context) == 8 * chunk
    twin = context.fork()
    for going_on in (context, twin):
        going_on.extend(ids[8 * chunk :])
        assert torch.equal(going_on.logits, want.logits)
        assert_same(going_on.states, want.states)
    kept = [len(s._blocks) for s in context.states if isinstance(s, KVCache)]
    assert all(count == 10 for count in kept)


@ends
def test_likelihood_attention_and_writing_are_those_of_one_device(directory):
    found = []
    for cuts in ((), (1, 2)):
        model = loaded(directory, *cuts)
        context = Context(model, 16)
        context.extend(ids_of(50))
        scores = context.score(ids_of(40)), context.attention(ids_of(40))
        draws = EagerDecodeLoop(context, Sampler(Sampling(1.2, 0.9, 5), model.suppressed_ids()))
        found.append((*scores, [draws.next() for _ in range(12)], context.logits))
    (score, shares, drawn, logits), (others, other_shares, other_drawn, other_logits) = found
    assert torch.equal(score, others)
    assert shares is None or torch.equal(shares, other_shares)
    assert drawn == other_drawn
    assert torch.equal(logits, other_logits)


@ends
def test_a_saved_context_is_the_same_from_either_and_survives_a_kill(
    minimax, tmp_path, monkeypatch
):
    """Blocks are put on disk, and read from there, while stages append behind them."""
    monkeypatch.setattr(kv_cache, "BLOCK_TOKENS", 4096)
    ids = ids_of(9_000)
    engines = {
        names: Engine(minimax, device=names, chunk_tokens=512) for names in ("cpu", "cpu,cpu")
    }
    assert isinstance(engines["cpu,cpu"]._model, StagedModel)
    assert engines["cpu"].fingerprint == engines["cpu,cpu"].fingerprint
    plan = ContextPlan(ids, [len(ids)], {})
    want = engines["cpu"].build_context(tmp_path / "one", plan).context

    def stop(done, total):
        if done > 6_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engines["cpu,cpu"].build_context(tmp_path / "two", plan, on_progress=stop)
    built = engines["cpu,cpu"].build_context(tmp_path / "two", plan)
    assert 6_000 < built.reused_tokens < 9_000
    for name, folder in (("cpu", "two"), ("cpu,cpu", "one")):
        opened = engines[name].open_context(tmp_path / folder)
        for context in (opened, built.context):
            assert_same(context.states, want.states)
            assert torch.equal(context.logits, want.logits)
    engines["cpu,cpu"].check_memory(9_000)


def test_training_reaches_the_weights_of_every_stage(minimax):
    """Red: a model in stages has no gradients, or not those of one device."""
    grads = []
    for cuts in ((), (1, 2)):
        model = loaded(minimax, *cuts).requires_grad_(True)
        states = model.empty_states(differentiable=True)
        model.logits(model(torch.tensor(ids_of(12)), states, 0)).sum().backward()
        grads.append({name: p.grad for name, p in model.named_parameters()})
    assert all(torch.equal(grad, grads[1][name]) for name, grad in grads[0].items())
