"""Red here means that drafts change what is written, or that a context is not what was read."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import llama_config, load_model, minimax_config, mm1_config, write_checkpoint

from engine import prompt_lookup
from engine.context import Context
from engine.decode import EagerDecodeLoop, Sampler, Sampling
from engine.prompt_lookup import DraftLength, NgramIndex, SpeculativeReader
from engine.quantized.forms import Form
from engine.quantized.quantize import quantize
from kernels.linear import fp16_weight, jit

needs_halves = pytest.mark.skipif(not fp16_weight.is_usable(), reason="no product of few rows here")
WIDE = {"hidden_size": 32, "intermediate_size": 32}
MODELS = {
    "m1, experts": minimax_config(**WIDE, shared_intermediate_size=16),
    "llama": llama_config(**WIDE, num_attention_heads=2, num_key_value_heads=1),
    "hybrid with windows": mm1_config(**WIDE),
}


QUANTISED = {"llama in int4": Form.INT4_32, "m1, experts in int8": Form.INT8}


@pytest.fixture(scope="module", params=[*MODELS, *QUANTISED])
def model(request, tmp_path_factory):
    name, _, form = request.param.partition(" in ")
    directory = write_checkpoint(tmp_path_factory.mktemp("m"), MODELS[name])
    if form:
        if not jit.is_usable(0):
            pytest.skip("no product of few rows with quantised weights here")
        quantize(directory, directory / "small", QUANTISED[request.param])
        directory = directory / "small"
    loaded = load_model(directory)
    loaded.prepare_for_inference(small_m=True)
    return loaded


def context_of(model, token_ids, kv_dtype=None):
    context = Context(model, 64, kv_dtype=kv_dtype)
    context.extend(token_ids)
    return context


def text_with_repeats(seed, length=150):
    drawn = np.random.default_rng(seed)
    phrases = [drawn.integers(4, 300, size=drawn.integers(3, 12)).tolist() for _ in range(6)]
    ids = [token for _ in range(length) for token in phrases[drawn.integers(6)]]
    return ids[:length]


def tensors_of(context):
    found = []
    for state in context.states:
        if hasattr(state, "tensors"):
            found += list(state.tensors().values())
        else:
            blocks = range(-(-state.num_tokens // 4096))
            found += [tensor for index in blocks for tensor in state.block(index).values()]
    return found


def assert_equal_contexts(got, want):
    assert got.token_ids == want.token_ids
    assert torch.equal(got.logits, want.logits)
    for ours, theirs in zip(tensors_of(got), tensors_of(want), strict=True):
        assert torch.equal(ours, theirs)


@needs_halves
@pytest.mark.parametrize("start", [1, 60, 127, 200])
@pytest.mark.parametrize("num_tokens", [2, 5, 8])
@pytest.mark.parametrize("kv_dtype", [None, torch.int8])
def test_tokens_read_at_once_leave_the_bits_of_reading_them_one_by_one(
    model, start, num_tokens, kv_dtype
):
    ids = text_with_repeats(start, start + num_tokens)
    together, alone = (context_of(model, ids[:start], kv_dtype) for _ in range(2))
    rows = together.verify_draft(ids[start:])
    for row, token_id in zip(rows, ids[start:], strict=True):
        alone.extend([token_id])
        assert torch.equal(row, alone.logits)
    together.accept(num_tokens)
    assert_equal_contexts(together, alone)


@needs_halves
@pytest.mark.parametrize("start", [3, 62, 190])
@pytest.mark.parametrize("num_kept", [1, 4, 7])
def test_tokens_that_are_taken_back_leave_nothing(model, start, num_kept):
    """Also when other tokens are read in their place."""
    ids = text_with_repeats(1, start + 8)
    context, want = (context_of(model, ids[:start]) for _ in range(2))
    before = context.fork()
    context.verify_draft(ids[start:])
    context.accept(num_kept)
    for token_id in ids[start : start + num_kept]:
        want.extend([token_id])
    assert_equal_contexts(context, want)
    for changed in (context, want):
        changed.extend([7])
    assert_equal_contexts(context, want)
    assert_equal_contexts(before, context_of(model, ids[:start]))


def test_a_context_between_reading_and_keeping_is_not_used(model):
    context = context_of(model, [5, 6])
    context.verify_draft([7, 8])
    with pytest.raises(Exception, match="interrupted"):
        context.extend([9])


class Scripted(Sampler):
    """Mostly draws what comes next in a script, so that drafts are often right and often wrong."""

    def __init__(self, sampling, script):
        super().__init__(sampling, torch.zeros(320, dtype=torch.bool))
        self._script, self._count = script, 0

    def choose(self, logits):
        pushed = logits.clone()
        self._count += 1
        if self._count % 7:
            pushed[self._script[self._count - 1]] += 30.0 * float(logits.std())
        return super().choose(pushed)


def written(model, prompt, sampling, script, *, is_ahead):
    context = context_of(model, prompt)
    ahead = SpeculativeReader(context) if is_ahead else None
    draws = EagerDecodeLoop(context, Scripted(sampling, script), None, ahead)
    tokens = [draws.next() for _ in range(len(script))]
    draws.finish(len(script) - 1)
    return tokens, context, ahead


@needs_halves
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.8, top_p=0.95, seed=3)])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_written_and_read_does_not_depend_on_drafts(model, sampling, seed):
    """The same tokens and, bit by bit, the same states; drafts are both right and wrong in it."""
    prompt = text_with_repeats(seed)
    script = text_with_repeats(seed)[20:60]
    tokens, context, ahead = written(model, prompt, sampling, script, is_ahead=True)
    want, plain, _ = written(model, prompt, sampling, script, is_ahead=False)
    assert tokens == want
    assert_equal_contexts(context, plain)
    assert 0 < ahead.num_accepted < ahead.num_drafted


@needs_halves
def test_an_answer_may_end_inside_a_draft(model):
    prompt = text_with_repeats(5)
    script = text_with_repeats(5)[20:60]
    for count in (1, 2, 5, 9, 14):
        contexts = []
        for is_ahead in (True, False):
            context = context_of(model, prompt)
            ahead = SpeculativeReader(context) if is_ahead else None
            draws = EagerDecodeLoop(context, Scripted(Sampling(), script), None, ahead)
            for _ in range(count):
                draws.next()
            draws.finish(count - 1)
            contexts.append(context)
        assert_equal_contexts(*contexts)


def test_models_whose_products_depend_on_the_rows_beside_are_not_served(tmp_path):
    narrow = load_model(write_checkpoint(tmp_path / "narrow", llama_config(intermediate_size=24)))
    narrow.prepare_for_inference(small_m=True)
    plain = load_model(write_checkpoint(tmp_path / "plain", llama_config(**WIDE)))
    plain.prepare_for_inference()
    assert not prompt_lookup.supports(Context(narrow, 64))
    assert not prompt_lookup.supports(Context(plain, 64))


@needs_halves
def test_wide_models_are_served(model):
    assert prompt_lookup.supports(Context(model, 64))


def slow_draft(tokens, most):
    """By definition: the longest end of `tokens` that also stands further up, there the last."""
    for length in range(min(32, len(tokens) - 1), 1, -1):
        for at in range(len(tokens) - length - 1, -1, -1):
            if tokens[at : at + length] == tokens[-length:]:
                return length, tokens[at + length : at + length + most]
    return 0, []


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.lists(st.integers(0, 3), max_size=60),
    more=st.lists(st.integers(0, 3), max_size=20),
    most=st.integers(1, 8),
)
def test_drafts_are_what_followed_the_longest_match(tokens, more, most):
    lookup = NgramIndex(tokens)
    for token in more:
        lookup.push(token)
    assert lookup.draft(most) == slow_draft(tokens + more, most)


def test_a_lookup_over_a_million_tokens_answers_at_once():
    import time

    tokens = np.random.default_rng(0).zipf(1.3, size=1_000_000) % 50_000
    lookup = NgramIndex(tokens.tolist())
    began = time.perf_counter()
    for token in tokens[:50].tolist():
        lookup.push(token)
        lookup.draft(8)
    assert (time.perf_counter() - began) / 50 < 0.01


def test_drafts_that_are_never_right_stop_and_are_tried_again():
    pace, tried = DraftLength(), []
    for _ in range(400):
        num_drafted = pace.num_drafted(2)
        tried.append(num_drafted)
        if num_drafted:
            pace.learn(2, 0, 1)
    assert tried[0] > 0 and sum(map(bool, tried[100:])) < 40
    assert any(tried[200:])


def test_drafts_that_are_always_right_grow_to_the_most():
    pace = DraftLength()
    for _ in range(50):
        pace.learn(2, pace.num_drafted(2), 0)
    assert pace.num_drafted(2) == prompt_lookup.MOST_DRAFTED
