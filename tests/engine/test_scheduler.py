"""Red here means answers depend on what else is asked, weights are read too often, or it hangs."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import ends, others_alive
from tiny import llama_config, load_model, minimax_config, mm1_config, write_checkpoint

from engine import scheduler as module
from engine.checkpoint import Checkpoint
from engine.context import Context
from engine.decode import Decoding, Sampler, Sampling
from engine.families import read_config
from engine.layers.kv_cache import KVCache
from engine.pipeline_parallel.model import Stage
from engine.scheduler import run_shared
from engine.threads import STACK_BYTES
from engine.tokenizer import Tokenizer
from engine.weights import load

CONFIGS = {
    "minimax": minimax_config(),
    "llama": llama_config(),
    "mm1": mm1_config(),
    "stages": minimax_config(),
}


@pytest.fixture(scope="module", params=CONFIGS)
def model(request, tmp_path_factory):
    name = request.param
    directory = write_checkpoint(tmp_path_factory.mktemp(name), CONFIGS[name])
    if name != "stages":
        return load_model(directory)
    cpu = torch.device("cpu")
    how = {"device": cpu, "dtype": torch.float32, "stages": (Stage(0, 3, cpu), Stage(3, 4, cpu))}
    return load(Checkpoint(directory), read_config(directory), **how)


@pytest.fixture(scope="module")
def minimax(tmp_path_factory):
    return load_model(write_checkpoint(tmp_path_factory.mktemp("m"), minimax_config()))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return Tokenizer(write_checkpoint(tmp_path_factory.mktemp("t"), minimax_config()))


@pytest.fixture(autouse=True)
def none_left_behind():
    yield
    assert not others_alive()


class OnlyEven:
    """Allows even ids alone, and after `limit` of them only the end."""

    def __init__(self, limit):
        self._even = torch.arange(320) % 2 == 0
        self._even[8] = False
        self._limit, self._count = limit, 0

    def allowed(self):
        return self._even if self._count < self._limit else torch.arange(320) == 8

    def push(self, token_id):
        self._count += 1


QUESTIONS = st.fixed_dictionaries(
    {
        "question": st.text("the cat sat 123\n", max_size=40),
        "max_tokens": st.integers(0, 12),
        "temperature": st.sampled_from([0.0, 1.5]),
        "seed": st.integers(0, 3),
        "even": st.none() | st.integers(1, 6),
        "stop": st.sampled_from(["", "t", "at"]),
        "max_positions": st.sampled_from([40, 400]),
    }
)


def asked(base, tokenizer, asked):
    """Reads the question on a fork, then writes: (context, decoding)."""
    context = base.fork()
    sampling = Sampling(asked["temperature"], 0.9, asked["seed"])
    decoding = Decoding(
        context,
        tokenizer,
        Sampler(sampling, base.model.suppressed_ids()),
        max_tokens=asked["max_tokens"],
        max_positions=asked["max_positions"],
        stop_ids=frozenset({8}),
        stop_texts=[asked["stop"]],
        constraint=OnlyEven(asked["even"]) if asked["even"] else None,
    )

    def written():
        context.extend(tokenizer.encode(asked["question"]))
        yield from decoding

    return context, decoding, written()


def whole(context, decoding, text):
    """All there is to know about an answer, and the state it leaves."""
    tensors = [context.logits]
    for state in context.states:
        if isinstance(state, KVCache):
            tensors += [rows for segment in state.segments() for rows in segment]
        else:
            tensors += state.tensors().values()
    return (text, decoding.token_ids, decoding.stop_reason, context.token_ids), tensors


def documents(model):
    base = Context(model, 8)
    base.extend([(7 * i + i * i) % 290 for i in range(27)])
    return base


@settings(max_examples=8, deadline=None)
@given(st.lists(QUESTIONS, min_size=1, max_size=5))
def test_answers_written_together_are_those_written_alone(model, tokenizer, questions):
    """In text, tokens, reason to stop, and bits of the state: whoever else is asked."""
    base = documents(model)
    alone = [asked(base, tokenizer, one) for one in questions]
    want = [whole(context, decoding, "".join(text)) for context, decoding, text in alone]

    @ends
    def compare():
        answers = [asked(base, tokenizer, one) for one in questions]
        texts = run_shared(model, [lambda w=written: "".join(w) for _, _, written in answers])
        for (context, decoding, _), text, (facts, tensors) in zip(
            answers, texts, want, strict=True
        ):
            got_facts, got = whole(context, decoding, text)
            assert got_facts == facts
            assert all(torch.equal(x, y) for x, y in zip(got, tensors, strict=True))

    compare()


def count_passes(model, monkeypatch):
    """Says how often the layers were gone through, from the first to the last."""
    monkeypatch.setattr(type(model), "is_streamed", True)
    seen = []
    hooks = [
        layer.register_forward_hook(lambda *_, index=index: seen.append(index))
        for index, layer in enumerate(model.layers)
    ]

    def passes():
        for hook in hooks:
            hook.remove()
        return 1 + sum(after < before for before, after in pairwise(seen))

    return passes


def question(text, max_tokens, **changes):
    how = {"temperature": 0.0, "seed": 0, "even": None, "stop": "", "max_positions": 400}
    return {"question": text, "max_tokens": max_tokens} | how | changes


@ends
def test_a_streamed_model_is_passed_as_often_as_its_longest_answer_needs(
    minimax, tokenizer, monkeypatch
):
    base = documents(minimax)
    asked_for = [question("the cat sat on the mat", 9), question("a", 4), question("rat?", 6)]
    answers = [asked(base, tokenizer, one) for one in asked_for]
    passes = count_passes(minimax, monkeypatch)
    run_shared(minimax, [lambda w=written: list(w) for _, _, written in answers])
    # The questions, and each token of the longest answer but its last, which nothing follows.
    assert passes() == 1 + 8
    assert [len(decoding.token_ids) for _, decoding, _ in answers] == [9, 4, 6]


@ends
def test_text_comes_while_it_is_written(minimax, tokenizer):
    base = documents(minimax)
    answers = [asked(base, tokenizer, question(text, 20)) for text in ("cat", "rat")]
    counts = []

    def write(written):
        for _ in written:
            counts.append([len(decoding.token_ids) for _, decoding, _ in answers])

    run_shared(minimax, [lambda w=written: write(w) for _, _, written in answers])
    assert all(abs(one - other) <= 1 for one, other in counts), "one waits for the other's end"
    assert min(map(max, counts)) < 10, "nothing is told before all is written"


@ends
def test_an_error_ends_what_is_behind_it_and_not_what_is_before(minimax):
    base, done = documents(minimax), []

    def work(number, steps):
        context = base.fork()
        for step in range(steps):
            if (number, step) == (1, 2):
                raise ValueError("the second one fails")
            context.extend([5 + number])
        done.append(number)

    with pytest.raises(ValueError, match="the second one fails"):
        run_shared(minimax, [lambda n=n: work(n, 6) for n in range(4)])
    assert done == [0]


@ends
@pytest.mark.parametrize("when", [0, 5])
def test_an_interrupt_ends_all_and_the_contexts_say_that_they_are_not_whole(
    minimax, monkeypatch, when
):
    base, contexts = documents(minimax), []
    passes = []

    def interrupted(*args):
        passes.append(args)
        if len(passes) > when:
            raise KeyboardInterrupt
        return real(*args)

    real = module.layer_major_batch
    monkeypatch.setattr(module, "layer_major_batch", interrupted)

    def work():
        context = base.fork()
        contexts.append(context)
        for _ in range(10):
            context.extend([7])

    with pytest.raises(KeyboardInterrupt):
        run_shared(minimax, [work] * 3)
    assert not others_alive()
    assert [context.is_whole for context in contexts] == [False] * 3
    assert base.is_whole


@ends
def test_work_hands_out_parts_and_more_than_fit_wait_their_turn(minimax, monkeypatch):
    """Results keep their order; no more states are held at a time than there may be."""
    monkeypatch.setattr(module, "MOST_AT_ONCE", 3)
    base = documents(minimax)
    held, most = [0], []

    def part(number):
        held[0] += 1
        most.append(held[0])
        found = base.score([5, number, 7])
        held[0] -= 1
        return found

    def work(number):
        scores = run_shared(minimax, [lambda n=n: part(10 * number + n) for n in range(4)])
        return sum(scores) + base.score([number])

    found = run_shared(minimax, [lambda n=n: work(n) for n in range(5)])
    assert max(most) == 3
    for number, got in enumerate(found):
        scores = [base.score([5, 10 * number + n, 7]) for n in range(4)]
        assert torch.equal(got, sum(scores) + base.score([number]))


@ends
@pytest.mark.parametrize("room", [0, 1, 30, 10**9])
def test_no_more_begin_than_memory_has_room_for(minimax, monkeypatch, room):
    """And one in any case: a model with room for nothing else answers one after another."""
    lent, most, held = [], [], []

    def lend(num_bytes, at_any_cost=False):
        num_bytes -= STACK_BYTES * round(num_bytes / STACK_BYTES)
        lent.append(num_bytes)
        return num_bytes <= room

    monkeypatch.setattr(minimax, "reserve", lend)
    base = documents(minimax)

    def work(number, num_bytes=10, parts=()):
        held.append(num_bytes)
        most.append((sum(held), len(held)))
        found = base.score([5, number, 7])
        held.remove(num_bytes)
        if parts:
            run_shared(minimax, [lambda n=n: work(n, 3) for n in parts], 3)
        return found

    works = [lambda: work(9, parts=(20, 21, 22)), *(lambda n=n: work(n) for n in range(6))]
    found = run_shared(minimax, works, 10)
    assert all(num_bytes <= room or count == 1 for num_bytes, count in most)
    assert max(count for _, count in most) == {0: 1, 1: 1, 30: 4}.get(room, 9)
    assert lent[-1] == 0
    for number, got in zip((9, *range(6)), found, strict=True):
        assert torch.equal(got, base.score([5, number, 7]))


@ends
def test_an_error_of_a_part_is_its_owners(minimax):
    base = documents(minimax)

    def part(number):
        base.score([5, 6])
        if number == 2:
            raise ValueError("a part fails")
        base.score([6])
        return number

    def work(number):
        try:
            return run_shared(minimax, [lambda n=n: part(n + number) for n in range(3)])
        except ValueError as error:
            return str(error)

    found = run_shared(minimax, [lambda n=n: work(n) for n in (0, 5, 1)])
    assert found == ["a part fails", [5, 6, 7], "a part fails"]


@ends
def test_another_models_contexts_are_read_as_ever(minimax, model):
    """Red: work that uses two models waits for a pass that reads the wrong one's weights."""
    want = documents(model).logits
    found = run_shared(minimax, [lambda: (documents(minimax), documents(model))] * 2)
    for mine, others in found:
        assert torch.equal(others.logits, want)
        assert torch.equal(mine.logits, documents(minimax).logits)


@ends
def test_nothing_to_do_is_done(minimax):
    assert run_shared(minimax, []) == []
    assert run_shared(minimax, [lambda: run_shared(minimax, [])]) == [[]]
