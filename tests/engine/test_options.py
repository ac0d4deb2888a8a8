"""Red here means an option of our own layers is computed differently from its definition."""

from itertools import pairwise

import pytest
import reference
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from measure import relative_rms
from tiny import (
    EXPERTS,
    LIGHTNING,
    WINDOWED,
    load_model,
    mm1_config,
    random_weights,
    write_checkpoint,
)

from engine.context import Context

IDS = torch.randint(4, 290, (60,), generator=torch.Generator().manual_seed(5)).tolist()
DOCUMENT = 41
FAR = {"mixer": "softmax", "log_scale_base": 20, "log_scale_from_tokens": 30}
M1 = {"mixer": "lightning"}


def one_kind(kind):
    return mm1_config(layer_kinds={"only": kind}, layers=["only"] * 2)


CONFIGS = {
    "all five": mm1_config(),
    "experts": mm1_config(**EXPERTS),
    "a shared expert": mm1_config(**EXPERTS, shared_intermediate_size=20),
    "lightning": one_kind(LIGHTNING),
    "as in M1": one_kind(M1),
    "silu and norm": one_kind(M1 | {"qk_norm": True}),
    "no silu": one_kind(M1 | {"silu": False}),
    "rotary": one_kind(M1 | {"rotary_dim": 6, "rope_theta": 100.0}),
    "scale": one_kind(M1 | {"scale": 0.01, "silu": False}),
    "slopes": one_kind(M1 | {"slopes": [2.0, 0.5, 0.1, 0.0]}),
    "alibi": one_kind(M1 | {"slope_layer_factor": False}),
    "groups": one_kind(M1 | {"norm_groups": 8}),
    "full softmax": one_kind({"mixer": "softmax", "rotary_dim": 16}),
    "no rotary": one_kind({"mixer": "softmax"}),
    "part of the frequencies": one_kind(
        {"mixer": "softmax", "rotary_dim": 8, "rotary_frequency_dim": 16}
    ),
    "gate": one_kind({"mixer": "softmax", "output_gate": True}),
    "window": one_kind(WINDOWED),
    "window, no sinks": one_kind({"mixer": "softmax", "window_tokens": 3}),
    "log scale": one_kind(FAR),
}


def run(model, chunk_tokens, document=DOCUMENT, cuts=()):
    """Logits of every position: the document, then the rest read globally, both cut at `cuts`."""
    context = Context(model, chunk_tokens)
    rows = []
    borders = sorted({0, document, len(IDS), *cuts})
    with torch.inference_mode():
        for first, last in pairwise(borders):
            if first == document:
                context.end_of_documents()
            rows += [model.logits(hidden) for _, hidden in context.chunks(IDS[first:last])]
    return torch.cat(rows)


def logits_of(tmp_path, config, settle=True, **options):
    model = load_model(write_checkpoint(tmp_path / "m", config))
    if settle:
        model.prepare_for_inference()
    return run(model, 512, **options)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_equals_the_definition(tmp_path, config):
    want = reference.logits(config, random_weights(config), IDS, DOCUMENT)
    assert want.std() > 0.5
    assert relative_rms(logits_of(tmp_path, config), want) < 1e-5


OPTIONS = [
    (LIGHTNING, {"silu": True}),
    (LIGHTNING, {"qk_norm": False}),
    (LIGHTNING, {"rotary_dim": 14}),
    (LIGHTNING, {"rope_theta": 500.0}),
    (LIGHTNING, {"slope_layer_factor": True}),
    (LIGHTNING, {"slopes": [0.25, 0.07, 0.016, 0.004]}),
    (LIGHTNING, {"norm_groups": 2}),
    (WINDOWED, {"window_tokens": 10}),
    (WINDOWED, {"sink_tokens": 1}),
    (WINDOWED, {"rotary_dim": 6}),
    (WINDOWED, {"rotary_frequency_dim": 18}),
    (WINDOWED, {"log_scale_base": 9.0}),
    (FAR, {"log_scale_from_tokens": 31}),
]


@pytest.mark.parametrize(("kind", "change"), OPTIONS, ids=str)
def test_every_option_changes_the_answer(tmp_path, kind, change):
    """An option that is read and then forgotten would pass a test of its default."""
    before = logits_of(tmp_path / "before", one_kind(kind))
    after = logits_of(tmp_path / "after", one_kind(kind | change))
    assert relative_rms(after, before) > 1e-4


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(write_checkpoint(tmp_path_factory.mktemp("mm1") / "m", mm1_config()))


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    chunk_tokens=st.integers(1, 70),
    document=st.integers(0, 60),
    cuts=st.sets(st.integers(1, 59), max_size=5),
)
def test_how_a_sequence_is_cut_does_not_matter(model, chunk_tokens, document, cuts):
    whole = run(model, 512, document)
    assert relative_rms(run(model, chunk_tokens, document, cuts), whole) < 1e-5


def test_a_fork_keeps_where_the_question_began(model):
    context = Context(model, 16)
    context.extend(IDS[:DOCUMENT])
    document_only = context.fork()
    context.end_of_documents()
    context.fork().end_of_documents()
    twin = context.fork()
    twin.extend(IDS[DOCUMENT:])
    assert twin.logits is not None and document_only.logits is not None
    assert torch.allclose(twin.logits, run(model, 16)[-1], atol=1e-5)
    document_only.extend(IDS[DOCUMENT:])
    assert (document_only.logits - twin.logits).abs().max() > 1e-2


def test_document_tokens_see_the_window_and_the_sinks_alone(tmp_path):
    """One windowed layer: a change out of sight must leave the bits as they are."""
    config = mm1_config(layer_kinds={"only": WINDOWED}, layers=["only"])
    model = load_model(write_checkpoint(tmp_path / "m", config))
    rows = []
    for changed in (None, 1, 20):
        ids = [9 if at == changed else i for at, i in enumerate(IDS)]
        context = Context(model, 512)
        rows.append(torch.cat([hidden for _, hidden in context.chunks(ids)]))
    plain, sink, middle = rows
    assert (plain - sink).abs().amax(dim=1)[1:].min() > 1e-5
    seen = (plain - middle).abs().amax(dim=1).nonzero()[:, 0].tolist()
    assert seen == list(range(20, 29))


def test_gradients_reach_past_chunks_when_asked_for(model):
    """A trace of keys and values passes gradients from the last chunk to the first token."""
    embed = model.embed.weight
    grads = []
    for cuts in ([60], [20, 20, 20]):
        embed.grad = None
        embed.requires_grad_(True)
        states, start = model.empty_states(differentiable=True), 0
        for size in cuts:
            ids = torch.tensor(IDS[start : start + size])
            hidden = model(ids, states, start)
            start += size
        hidden[-1].square().sum().backward()
        grads.append(embed.grad.clone())
        embed.requires_grad_(False)
        embed.grad = None
    assert grads[0][IDS[0]].abs().max() > 0
    assert relative_rms(grads[1], grads[0]) < 1e-4
