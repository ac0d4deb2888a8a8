"""Red here means a context is not what it says it holds: forks, cuts or interrupts change it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import llama_config, load_model, minimax_config, write_checkpoint

from engine.context import Context
from engine.errors import EngineError
from engine.layers import kv_cache
from engine.layers.lightning import LightningState

IDS = torch.randint(4, 290, (400,), generator=torch.Generator().manual_seed(7)).tolist()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(write_checkpoint(tmp_path_factory.mktemp("m1"), minimax_config()))


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(kv_cache, "BLOCK_TOKENS", 8)


def read(model, ids, chunk_tokens=16):
    context = Context(model, chunk_tokens)
    context.extend(ids)
    return context


def contents(context):
    """Everything the context holds, as tensors."""
    found = [context.logits]
    for state in context.states:
        if isinstance(state, LightningState):
            found.append(state.tensor)
        else:
            found += [torch.cat(parts) for parts in zip(*state.segments(), strict=True)]
    return found


def assert_equal(context, other):
    assert context.token_ids == other.token_ids
    for got, want in zip(contents(context), contents(other), strict=True):
        assert torch.equal(got, want)


def assert_close(context, other):
    assert context.token_ids == other.token_ids
    assert_contents_close(contents(context), contents(other))


def assert_contents_close(found, wanted):
    for got, want in zip(found, wanted, strict=True):
        assert (got - want).abs().max() <= 1e-4 * want.abs().max()


@settings(max_examples=25, deadline=None)
@given(
    shared=st.integers(1, 40),
    steps=st.lists(st.tuples(st.booleans(), st.integers(1, 20)), min_size=1, max_size=8),
)
def test_forks_grow_apart_as_if_they_never_met(model, shared, steps):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kv_cache, "BLOCK_TOKENS", 8)
        origin = read(model, IDS[:shared])
        before = [tensor.clone() for tensor in contents(origin)]
        forks = [origin.fork(), origin.fork()]
        alone = [read(model, IDS[:shared]), read(model, IDS[:shared])]
        for number, (which, count) in enumerate(steps):
            ids = IDS[50 + 20 * number : 50 + 20 * number + count]
            forks[which].extend(ids)
            alone[which].extend(ids)
        for fork, separate in zip(forks, alone, strict=True):
            assert_equal(fork, separate)
        assert origin.token_ids == IDS[:shared]
        for got, want in zip(contents(origin), before, strict=True):
            assert torch.equal(got, want)


def test_a_fork_sees_what_its_origin_saw_and_not_what_came_after(model):
    origin = read(model, IDS[:30])
    fork = origin.fork()
    origin.extend(IDS[100:120])
    fork.extend(IDS[30:33])
    alone = read(model, IDS[:30])
    alone.extend(IDS[30:33])
    assert_equal(fork, alone)
    assert not torch.equal(fork.logits, origin.logits)


def test_a_fork_of_a_fork_shares_full_blocks_and_copies_the_last(model, small_blocks):
    origin = read(model, IDS[:20])
    twin = origin.fork().fork()
    ours, theirs = (
        next(s for s in c.states if isinstance(s, kv_cache.KVCache)) for c in (origin, twin)
    )
    pairs = zip(ours._blocks, theirs._blocks, strict=True)
    shared = [a[0].data_ptr() == b[0].data_ptr() for a, b in pairs]
    assert shared == [True, True, False]


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=5), st.sampled_from([1, 5, 16, 512]))
def test_the_grid_not_the_calls_decides_the_products(model, sizes, chunk_tokens):
    """Calls that end on grid borders are bit-equal to one call; others differ by rounding."""
    on_grid, anywhere = Context(model, chunk_tokens), Context(model, chunk_tokens)
    start = 0
    for size in sizes:
        anywhere.extend(IDS[start : start + size])
        start += size
    while (border := (len(on_grid) // chunk_tokens + 1) * chunk_tokens) < start:
        on_grid.extend(IDS[len(on_grid) : border])
    on_grid.extend(IDS[len(on_grid) : start])
    whole = read(model, IDS[:start], chunk_tokens)
    assert_equal(on_grid, whole)
    assert_close(anywhere, whole)


@pytest.mark.parametrize("chunk_tokens", [1, 2, 33, 127, 128, 129, 400])
def test_chunk_sizes_agree_within_rounding(model, chunk_tokens):
    assert_close(read(model, IDS, chunk_tokens), read(model, IDS, 256))


def test_the_last_token_matters(model):
    assert not torch.allclose(read(model, IDS[:50]).logits, read(model, [*IDS[:49], 5]).logits)


@pytest.mark.parametrize("config", [minimax_config(), llama_config()], ids=["m1", "llama"])
@pytest.mark.parametrize("num_tokens", [7, 8, 9, 16, 61])
def test_borders_of_kv_blocks_cannot_be_seen(tmp_path, monkeypatch, config, num_tokens):
    model = load_model(write_checkpoint(tmp_path / "m", config))
    whole = contents(read(model, IDS[:num_tokens], 11))
    monkeypatch.setattr(kv_cache, "BLOCK_TOKENS", 8)
    cut = read(model, IDS[:num_tokens], 11)
    caches = [state for state in cut.states if isinstance(state, kv_cache.KVCache)]
    assert all(len(cache.segments()) == -(-num_tokens // 8) for cache in caches)
    assert_contents_close(contents(cut), whole)


class StopHereError(Exception):
    pass


@pytest.mark.parametrize("border", [1, 3, 6])
def test_interrupted_at_a_border_and_continued_is_the_same_context(model, border):
    context, seen = Context(model, 16), []

    def interrupt(done, total):
        seen.append((done, total))
        if len(seen) == border:
            raise StopHereError

    with pytest.raises(StopHereError):
        context.extend(IDS[:100], interrupt)
    assert seen == [(16 * (n + 1), 100) for n in range(border)]
    assert len(context) == 16 * border
    assert_equal(context, read(model, IDS[: 16 * border]))
    context.extend(IDS[len(context) : 100])
    assert_equal(context, read(model, IDS[:100]))


def test_progress_counts_the_tokens_of_this_call(model):
    context, seen = read(model, IDS[:20]), []
    context.extend(IDS[20:60], lambda done, total: seen.append((done, total)))
    assert seen == [(12, 40), (28, 40), (40, 40)]


@pytest.mark.parametrize("layer", [0, 3])
def test_an_error_inside_a_chunk_leaves_a_context_that_refuses(model, monkeypatch, layer):
    context = read(model, IDS[:20])
    fork = context.fork()

    def fail(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(type(model.layers[layer].mlp), "forward", fail)
        with pytest.raises(MemoryError):
            context.extend(IDS[20:60])
    for use in (
        lambda: context.extend(IDS[20:60]),
        context.fork,
        lambda: context.score(IDS[20:22]),
    ):
        with pytest.raises(EngineError, match="interrupted inside a chunk; build it again"):
            use()
    assert_equal(fork, read(model, IDS[:20]))


def test_an_error_in_the_head_leaves_no_stale_logits(model, monkeypatch):
    """Else the next answer would go on from a token the context no longer ends with."""
    context = read(model, IDS[:20])

    def fail(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(model, "logits", fail)
        with pytest.raises(MemoryError):
            context.extend(IDS[20:25])
    assert len(context) == 25
    assert context.logits is None
    context.extend(IDS[25:40])
    assert_close(context, read(model, IDS[:40]))


def test_an_id_outside_the_vocabulary_is_not_read_as_another(model):
    context = read(model, IDS[:5])
    with pytest.raises(IndexError):
        context.extend([10**6])
    with pytest.raises(EngineError):
        context.extend([5])


@pytest.mark.parametrize("count", [1, 2, 17, 40])
def test_score_is_the_log_softmax_of_the_next_tokens_and_changes_nothing(model, count):
    context = read(model, IDS[:30])
    before = [tensor.clone() for tensor in contents(context)]
    got = context.score(IDS[30 : 30 + count])
    want = []
    twin = read(model, IDS[:30])
    for token_id in IDS[30 : 30 + count]:
        want.append(twin.logits.double().log_softmax(-1)[token_id])
        twin.extend([token_id])
    assert got.shape == (count,)
    assert (got - torch.stack(want)).abs().max() < 1e-4
    assert max(want) < -0.1  # a certain token would hide a wrong position
    assert len(context) == 30
    for after, tensor in zip(contents(context), before, strict=True):
        assert torch.equal(after, tensor)


@pytest.mark.parametrize("num_given", [1, 13, 30])
@pytest.mark.parametrize("count", [1, 9])
def test_what_is_given_is_read_before_what_is_scored(model, num_given, count):
    """Red: judgements are of another text than the one they name."""
    context, ids = read(model, IDS[: 30 - num_given]), IDS[30 : 30 + count]
    want = read(model, IDS[:30]).score(ids)
    assert (context.score(ids, given=IDS[30 - num_given : 30]) - want).abs().max() < 1e-4
    assert len(context) == 30 - num_given


def test_nothing_has_no_score_and_an_empty_context_gives_none(model):
    assert read(model, IDS[:3]).score([]).shape == (0,)
    assert read(model, IDS[:3]).score([], given=IDS[3:5]).shape == (0,)
    with pytest.raises(EngineError, match="empty context"):
        Context(model, 16).score([5])


def test_reading_nothing_changes_nothing(model):
    context = read(model, IDS[:20])
    context.extend([])
    assert_equal(context, read(model, IDS[:20]))
    assert Context(model, 16).logits is None


def test_bytes_grow_by_blocks_in_softmax_layers_only(model, small_blocks):
    state_bytes = 3 * 4 * 16 * 16 * 4  # three Lightning layers of 4 heads, 16 x 16 float32
    kv_bytes = 2 * 8 * 2 * 16 * 4  # keys and values of a block of 8 tokens, 2 heads of 16
    for num_tokens, blocks in ((0, 0), (1, 1), (8, 1), (9, 2), (24, 3)):
        assert read(model, IDS[:num_tokens]).num_bytes == state_bytes + blocks * kv_bytes
