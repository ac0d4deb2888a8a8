"""Red here means a GPU writes other answers than a CPU, or leaves its context in another state."""

from importlib import import_module

import pytest
import torch
from measure import relative_rms
from tiny import llama_config, load_model, minimax_config, mm1_config, write_checkpoint
from torch.utils._python_dispatch import TorchDispatchMode

from engine import cuda_graph
from engine.context import Context
from engine.decode import Decoding, EagerDecodeLoop, Sampler, Sampling, StopReason
from engine.layers import kv_cache
from engine.layers.kv_cache import KVCache
from engine.layers.lightning import LightningState
from engine.tokenizer import Tokenizer
from kernels.attention import dense
from kernels.registry import Registry

CONFIGS = {
    "hybrid with experts": minimax_config(),
    "softmax alone": llama_config(),
    "windows, gates, growing scores": mm1_config(layers=["local", "window", "far", "m1"]),
}
SAMPLINGS = {"greedy": Sampling(), "sampled": Sampling(1.3, 0.9, 7)}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        name: load_model(write_checkpoint(folder / str(number), config))
        for number, (name, config) in enumerate(CONFIGS.items())
    }


@pytest.fixture(autouse=True)
def blocks_of_8(monkeypatch):
    monkeypatch.setattr(kv_cache, "BLOCK_TOKENS", 8)


def read(model, num_tokens, kv_dtype=None, everything=False):
    context = Context(model, 16, kv_dtype)
    context.extend([(7 * i + i * i) % 290 for i in range(num_tokens)])
    if everything:
        context.end_of_documents()
    return context


def parts(context):
    """All that a context is, as (name, tensor)."""
    yield "logits", context.logits
    for number, state in enumerate(context.states):
        if isinstance(state, LightningState):
            yield f"state {number}", state.tensor
            continue
        assert state.num_tokens == len(context)
        for side in (0, 1):
            rows = [dense(pair[side], torch.float32) for pair in state.segments()]
            assert all(len(block) == 8 for block in rows[:-1])
            yield f"keys or values {number}", torch.cat(rows)


def assert_same(got, want):
    assert got.token_ids == want.token_ids
    for (name, x), (_, y) in zip(parts(got), parts(want), strict=True):
        assert torch.equal(x, y), name


def drawn(draws, count, num_read):
    token_ids = [draws.next() for _ in range(count)]
    draws.finish(num_read)
    return token_ids


def both(model, count, num_read, sampling, limit=None, **how):
    """Tokens and context, drawn by steps and eagerly."""
    found = []
    for kind in (cuda_graph.GraphDecodeLoop, EagerDecodeLoop):
        context = read(model, **how)
        sampler = Sampler(sampling, model.suppressed_ids())
        draws = kind(
            context, sampler, *([limit or count] if kind is cuda_graph.GraphDecodeLoop else [])
        )
        ids = drawn(draws, count, num_read)
        found.append((ids, context))
    (stepped, context), (eager, eager_context) = found
    assert stepped == eager
    assert len(set(eager)) > count // 4
    # The eager context has read all but the last token; a twin reads as many as are asked for.
    assert eager_context.token_ids[-1] == eager[count - 2]
    want = read(model, **how)
    for token_id in eager[:num_read]:
        want.extend([token_id])
    return context, want


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
@pytest.mark.parametrize("name", CONFIGS)
def test_steps_give_the_bits_of_eager_decoding(models, name, sampling):
    """Over five borders of blocks and two of the room that steps have."""
    context, want = both(models[name], 40, 39, sampling, num_tokens=21)
    assert_same(context, want)


@pytest.mark.parametrize("kv_dtype", [torch.int8, torch.float32])
@pytest.mark.parametrize("everything", [False, True])
def test_windows_and_int8_keys_are_kept(models, kv_dtype, everything):
    model = models["windows, gates, growing scores"]
    how = {"num_tokens": 30, "kv_dtype": kv_dtype, "everything": everything}
    assert_same(*both(model, 20, 19, Sampling(), **how))


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
@pytest.mark.parametrize("num_read", range(9, 12))
def test_what_was_drawn_too_much_leaves_no_trace(models, sampling, num_read):
    """A stop after 11 tokens when up to 19 were drawn, at every place in a batch of four."""
    count = num_read + 1
    context, want = both(
        models["hybrid with experts"], count, num_read, sampling, limit=100, num_tokens=13
    )
    assert_same(context, want)
    context.extend([5, 6, 7])
    want.extend([5, 6, 7])
    assert_same(context, want)


@pytest.mark.parametrize(("count", "num_read"), [(1, 0), (1, 1), (2, 1), (2, 2), (4, 4), (5, 5)])
def test_the_first_tokens_can_be_the_last(models, count, num_read):
    """As many as were drawn are read where the last one drawn ended the turn or was cut off."""
    model = models["hybrid with experts"]
    context = read(model, 16)
    draws = cuda_graph.GraphDecodeLoop(context, Sampler(Sampling(), model.suppressed_ids()), 100)
    token_ids = drawn(draws, count, num_read)
    want = read(model, 16)
    for token_id in token_ids[:num_read]:
        want.extend([token_id])
    assert_same(context, want)


def test_a_context_keeps_still_while_tokens_are_drawn_and_forks_stay_apart(models):
    model = models["hybrid with experts"]
    context = read(model, 13)
    fork = context.fork()
    before = [(name, tensor.clone()) for name, tensor in parts(context)]
    draws = cuda_graph.GraphDecodeLoop(context, Sampler(Sampling(), model.suppressed_ids()), 10)
    token_ids = [draws.next() for _ in range(4)]  # the next would make room
    assert len(context) == 13
    assert all(torch.equal(x, y) for (_, x), (_, y) in zip(parts(context), before, strict=True))
    token_ids += [draws.next() for _ in range(6)]
    draws.finish(9)
    assert context.token_ids[13:] == token_ids[:9]
    assert all(torch.equal(x, y) for (_, x), (_, y) in zip(parts(fork), before, strict=True))


def test_no_step_is_taken_beyond_the_limit(models, monkeypatch):
    model = models["hybrid with experts"]
    steps = []
    work = cuda_graph.GraphStepper._work
    monkeypatch.setattr(cuda_graph.GraphStepper, "_work", lambda self: steps.append(work(self)))
    for limit, expected in ((1, 0), (2, 1), (7, 6)):
        steps.clear()
        draws = cuda_graph.GraphDecodeLoop(
            read(model, 3), Sampler(Sampling(), model.suppressed_ids()), limit
        )
        drawn(draws, limit, limit - 1)
        assert len(steps) == expected


class NothingFromTheHost(TorchDispatchMode):
    """What a CUDA graph cannot record: numbers read back, shapes by value, numbers sent over."""

    FORBIDDEN = ("item", "_local_scalar_dense", "nonzero", "lift_fresh", "masked_select")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func.overloadpacket.__name__ not in self.FORBIDDEN, f"{func} inside a step"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
@pytest.mark.parametrize("kv_dtype", [None, torch.int8])
def test_a_step_by_the_gpus_kernels_needs_nothing_of_the_host(
    tmp_path, monkeypatch, sampling, kv_dtype
):
    """The second step, which is the one recorded; the kernels interpreted."""
    import_module("tests.kernels.interpreted")
    choose = Registry.choose

    def by_triton(self, device, dtype, name=None):
        known = {each.name for each in self._implementations}
        return choose(self, device, dtype, "triton" if "triton" in known else name)

    config = minimax_config(head_dim=64, rotary_dim=32, attn_type_list=[0, 1, 0, 1])
    model = load_model(write_checkpoint(tmp_path / "m", config))
    context = read(model, 13, kv_dtype)
    steps, eager = context.fork(), context.fork()
    token, never = torch.tensor([5]), model.suppressed_ids()
    one = cuda_graph.GraphStepper(steps, Sampler(sampling, never), token, 3)
    monkeypatch.setattr(Registry, "choose", by_triton)
    one.start(1)
    lightning = [state.tensor.data_ptr() for state in one._lightning]
    with torch.inference_mode(), NothingFromTheHost():
        one._step()
    assert [state.tensor.data_ptr() for state in one._lightning] == lightning
    monkeypatch.setattr(Registry, "choose", choose)
    sampler = Sampler(sampling, never)
    eager.extend([5])
    for drawn_id in one._drawn[:2].tolist():
        assert drawn_id == sampler.draw(eager.logits)
        logits = eager.logits
        eager.extend([drawn_id])
    assert relative_rms(one._logits, logits) < 1e-4


def test_steps_that_look_at_a_number_are_caught(models):
    """Were the test above unable to fail, it would prove nothing: on a CPU attention does look."""
    model = models["softmax alone"]
    one = cuda_graph.GraphStepper(
        read(model, 3), Sampler(Sampling(), model.suppressed_ids()), torch.tensor([5]), 3
    )
    one.start(1)
    caught = pytest.raises(AssertionError, match="item")
    with caught, torch.inference_mode(), NothingFromTheHost():
        one._step()


@pytest.fixture
def stepped(monkeypatch):
    monkeypatch.setattr(cuda_graph, "supports", cuda_graph.can_step)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return Tokenizer(write_checkpoint(tmp_path_factory.mktemp("t"), minimax_config()))


def answer(model, tokenizer, **changes):
    context = read(model, 12)
    settings = {"max_tokens": 30, "max_positions": 4096, "stop_ids": frozenset()} | changes
    sampler = Sampler(settings.pop("sampling", Sampling(1.5, seed=3)), model.suppressed_ids())
    decoding = Decoding(context, tokenizer, sampler, **settings)
    return "".join(decoding), decoding, context


def ends(model, tokenizer, text, decoding):
    """Settings under which each rule ends the answer that runs to 30 tokens without them."""
    yield StopReason.MAX_TOKENS, {}
    yield StopReason.STOP_TEXT, {"stop_texts": [text[len(text) // 2 :][:3]]}
    yield StopReason.END, {"stop_ids": frozenset({decoding.token_ids[17]})}
    yield StopReason.CONTEXT_FULL, {"max_positions": 20}


def test_every_stop_rule_leaves_the_same_answer_and_context(models, tokenizer, monkeypatch):
    model = models["hybrid with experts"]
    text, decoding, _ = answer(model, tokenizer)
    for reason, changes in ends(model, tokenizer, text, decoding):
        want = answer(model, tokenizer, **changes)
        with monkeypatch.context() as patch:
            patch.setattr(cuda_graph, "supports", cuda_graph.can_step)
            got = answer(model, tokenizer, **changes)
        assert got[0] == want[0]
        assert got[1].stop_reason is want[1].stop_reason is reason
        assert got[1].token_ids == want[1].token_ids
        assert_same(got[2], want[2])


def test_an_answer_left_in_the_middle_leaves_the_tokens_read_so_far(models, tokenizer, stepped):
    model = models["hybrid with experts"]
    context = read(model, 12)
    sampler = Sampler(Sampling(1.5, seed=3), model.suppressed_ids())
    decoding = Decoding(
        context, tokenizer, sampler, max_tokens=30, max_positions=99, stop_ids=frozenset()
    )
    pieces = iter(decoding)
    for _ in range(3):
        next(pieces)
    pieces.close()
    assert context.token_ids[12:] == decoding.token_ids[:-1]
    assert context.is_whole
    want = read(model, 12)
    for token_id in decoding.token_ids[:-1]:
        want.extend([token_id])
    assert_same(context, want)


def test_layers_whose_state_has_no_fixed_form_are_written_eagerly(tmp_path):
    model = load_model(write_checkpoint(tmp_path / "m", mm1_config()))
    assert not cuda_graph.can_step(read(model, 3))
    assert not cuda_graph.supports(read(model, 3))


def test_an_empty_context_is_refused(models):
    model = models["softmax alone"]
    draws = cuda_graph.GraphDecodeLoop(
        Context(model, 16), Sampler(Sampling(), model.suppressed_ids()), 5
    )
    with pytest.raises(ValueError, match="empty context"):
        draws.next()
    draws.finish(0)


def test_room_is_made_without_touching_the_cache():
    cache = KVCache(2, 4, torch.float32, torch.device("cpu"))
    cache.append(*torch.randn(2, 11, 2, 4))
    blocks, pairs, _ = cache.room(2)
    pairs[0, 3:] = 7.0
    assert torch.equal(blocks[0][0][:3], cache.segments()[1][0])
    assert cache.num_tokens == 11 and (blocks[0][1][3:] == 7).all()
    cache.grow(blocks, 18)
    keys = torch.cat([k for k, _ in cache.segments()])
    assert keys.shape == (18, 2, 4) and (keys[11:16] == 7).all()
