"""Red here means answers are cut wrongly, leak stop text, lose letters, or cannot be repeated."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tiny import TRAINED_IDS, llama_config, load_model, minimax_config, write_checkpoint

from engine.context import Context
from engine.decode import Decoding, Sampler, Sampling, StopReason
from engine.errors import CheckpointError
from engine.stopping import in_loop
from engine.tokenizer import Tokenizer

NOTHING_MASKED = torch.zeros(320, dtype=torch.bool)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("m1"), minimax_config())


@pytest.fixture(scope="module")
def model(directory):
    return load_model(directory)


@pytest.fixture(scope="module")
def tokenizer(directory):
    return Tokenizer(directory)


def decoding(model, tokenizer, *, prompt="the cat", **changes):
    context = Context(model, 16)
    context.extend(tokenizer.encode(prompt))
    sampling = Sampling(**{k: changes.pop(k) for k in list(changes) if hasattr(Sampling, k)})
    settings = {"max_tokens": 24, "max_positions": 4096, "stop_ids": frozenset()} | changes
    sampler = Sampler(sampling, model.suppressed_ids())
    return context, Decoding(context, tokenizer, sampler, **settings)


class Script:
    """Draws the given ids one after another, whatever the logits are."""

    def __init__(self, ids):
        self._ids = iter(ids)

    is_greedy = False

    def draw(self, logits, allowed=None):
        return next(self._ids)


def scripted(model, tokenizer, ids, **changes):
    context = Context(model, 16)
    context.extend([5])
    settings = {"max_tokens": len(ids), "max_positions": 4096, "stop_ids": frozenset()} | changes
    return Decoding(context, tokenizer, Script(ids), **settings)


def test_greedy_writes_the_likeliest_token_each_time(model, tokenizer):
    context, answer = decoding(model, tokenizer, temperature=0.0)
    text = "".join(answer)
    assert answer.stop_reason is StopReason.MAX_TOKENS
    assert len(answer.token_ids) == 24
    assert context.token_ids == tokenizer.encode("the cat") + answer.token_ids[:-1]
    twin = Context(model, 16)
    twin.extend(tokenizer.encode("the cat"))
    for token_id in answer.token_ids:
        assert token_id == twin.logits[:TRAINED_IDS].argmax()
        twin.extend([token_id])
    assert tokenizer.decode(answer.token_ids).startswith(text)
    assert len(set(answer.token_ids)) > 3


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0}, {"temperature": 2.0, "top_p": 0.8}])
def test_the_same_seed_gives_the_same_text(model, tokenizer, sampling):
    answers = [decoding(model, tokenizer, seed=3, **sampling)[1] for _ in range(2)]
    assert "".join(answers[0]) == "".join(answers[1])
    assert answers[0].token_ids == answers[1].token_ids


def test_another_seed_gives_another_text(model, tokenizer):
    answers = [decoding(model, tokenizer, temperature=1.5, seed=seed)[1] for seed in range(4)]
    assert len({"".join(answer) for answer in answers}) == 4


@settings(max_examples=60, deadline=None)
@given(st.floats(0.01, 0.999), st.integers(0, 10**6))
def test_top_p_keeps_the_fewest_tokens_that_reach_it(top_p, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(50, generator=generator)
    p = logits.double().softmax(0)
    ordered = sorted(range(50), key=lambda i: -p[i])
    kept = next(n for n in range(1, 51) if p[ordered[:n]].sum() >= top_p)
    assume(abs(p[ordered[:kept]].sum() - top_p) > 1e-9)
    sampler = Sampler(Sampling(1.0, top_p, seed), torch.zeros(50, dtype=torch.bool))
    drawn = [sampler.draw(logits) for _ in range(60)]
    assert set(drawn) <= set(ordered[:kept])
    if kept > 1 and p[ordered[0]] < 0.5 * p[ordered[:kept]].sum():
        assert len(set(drawn)) > 1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_tokens_are_drawn_as_often_as_their_probability_says(temperature):
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    sampler = Sampler(Sampling(temperature, 1.0, 1), torch.zeros(4, dtype=torch.bool))
    counts = torch.bincount(torch.tensor([sampler.draw(logits) for _ in range(4000)]), minlength=4)
    want = (logits / temperature).softmax(0)
    assert (counts / 4000 - want).abs().max() < 0.03


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-300])
def test_a_tiny_temperature_is_greedy_and_does_not_overflow(temperature):
    logits = torch.tensor([-3e3, 5e3, 4.9e3])
    assert Sampler(Sampling(temperature), torch.zeros(3, dtype=torch.bool)).draw(logits) == 1


@pytest.mark.parametrize(
    "sampling", [(-1.0,), (float("nan"),), (float("inf"),), (1.0, 0.0), (1, 2)]
)
def test_impossible_sampling_is_refused(sampling):
    with pytest.raises(ValueError, match=r"temperature must be|top_p must be"):
        Sampling(*sampling)


def test_ids_without_an_embedding_are_never_written(tmp_path, tokenizer):
    """A tied head gives them logit 0, above that of every id but the likeliest few."""
    model = load_model(write_checkpoint(tmp_path / "m", llama_config()))
    unused = model.suppressed_ids()
    assert unused.nonzero()[:, 0].tolist() == list(range(TRAINED_IDS, 320))
    for sampling in ({}, {"temperature": 5.0}):
        _, answer = decoding(model, tokenizer, max_tokens=100, **sampling)
        for _ in answer:
            pass
        assert max(answer.token_ids) < TRAINED_IDS
        assert len(answer.token_ids) == 100
    free = Sampler(Sampling(5.0), NOTHING_MASKED)
    drawn = [free.draw(torch.zeros(320)) for _ in range(200)]
    assert max(drawn) >= TRAINED_IDS  # without the mask they would come


def test_a_stop_id_ends_the_answer_and_is_not_part_of_it(model, tokenizer):
    ids = tokenizer.encode("hat mat")
    answer = scripted(model, tokenizer, [*ids, 2, *ids], stop_ids=frozenset({2}))
    assert "".join(answer) == "hat mat"
    assert answer.token_ids == ids
    assert answer.stop_reason is StopReason.END


TEXTS = st.text(alphabet="abé€😀\n", max_size=30)


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.lists(st.text(alphabet="ab😀\n", max_size=4), max_size=3))
def test_stop_texts_end_the_answer_and_never_leak(model, tokenizer, text, stop_texts):
    """Each byte of é, €, 😀 is a token of its own here, so stops fall across tokens."""
    answer = scripted(model, tokenizer, tokenizer.encode(text), stop_texts=stop_texts)
    pieces = list(answer)
    # The first prefix, one token longer each time, that holds a stop text decides.
    whole, reason = text, StopReason.MAX_TOKENS
    for end in range(len(text) + 1):
        found = [at for stop in stop_texts if stop and (at := text[:end].find(stop)) >= 0]
        if found:
            whole, reason = text[: min(found)], StopReason.STOP_TEXT
            break
    shown = "".join(pieces)
    assert answer.stop_reason is reason
    assert all(pieces)
    assert shown == whole


def test_pieces_come_as_soon_as_they_are_safe(model, tokenizer):
    """The start of a stop text waits; when it turns out to be none, it is given."""
    answer = scripted(
        model, tokenizer, tokenizer.encode("x<<y<<<END"), max_tokens=100, stop_texts=["<<<END"]
    )
    assert list(answer) == ["x", "<<y"]
    assert answer.stop_reason is StopReason.STOP_TEXT


def test_what_was_held_back_is_given_when_the_answer_ends(model, tokenizer):
    answer = scripted(model, tokenizer, tokenizer.encode("x<<<EN"), stop_texts=["<<<END"])
    assert "".join(answer) == "x<<<EN"


def test_characters_of_several_tokens_come_whole(model, tokenizer):
    text = "a😀é你🏳️‍🌈b"
    ids = tokenizer.encode(text)
    assert len(ids) > len(text)
    pieces = list(scripted(model, tokenizer, ids))
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 289), max_size=30))
def test_any_ids_stream_as_they_decode(tokenizer, ids):
    """Half characters at the end wait for their rest and are the only text left out."""
    stream = tokenizer.stream()
    streamed = "".join(stream.push(token_id) for token_id in ids)
    whole = tokenizer.decode(ids)
    assert whole.startswith(streamed)
    assert set(whole[len(streamed) :]) <= {"\ufffd"}


def test_a_full_context_says_so(model, tokenizer):
    context, answer = decoding(model, tokenizer, max_positions=10, max_tokens=100)
    for _ in answer:
        pass
    assert answer.stop_reason is StopReason.CONTEXT_FULL
    assert len(context) == 10


@pytest.mark.parametrize("max_tokens", [0, 1, 5])
def test_no_more_than_max_tokens(model, tokenizer, max_tokens):
    context, answer = decoding(model, tokenizer, max_tokens=max_tokens)
    before = len(context)
    for _ in answer:
        pass
    assert answer.stop_reason is StopReason.MAX_TOKENS
    assert len(answer.token_ids) == max_tokens
    assert len(context) == before + max(max_tokens - 1, 0)


def test_an_answer_needs_something_to_continue(model, tokenizer):
    answer = Decoding(
        Context(model, 16),
        tokenizer,
        Sampler(Sampling(), model.suppressed_ids()),
        max_tokens=3,
        max_positions=100,
        stop_ids=frozenset(),
    )
    with pytest.raises(ValueError, match="extend it first"):
        list(answer)


def test_an_answer_on_a_fork_leaves_the_origin_as_it_was(model, tokenizer):
    context = Context(model, 16)
    context.extend(tokenizer.encode("the cat sat"))
    answers = []
    for _ in range(2):
        sampler = Sampler(Sampling(), model.suppressed_ids())
        settings = {"max_tokens": 9, "max_positions": 99, "stop_ids": frozenset()}
        answers.append("".join(Decoding(context.fork(), tokenizer, sampler, **settings)))
    assert answers[0] == answers[1]
    assert len(context) == len(tokenizer.encode("the cat sat"))


@pytest.mark.parametrize(
    ("token_ids", "loops"),
    [
        ([1, 2, 3] * 11, True),
        ([9, 8] + [5] * 32, True),
        ([5] * 31, False),
        (list(range(40)) * 3, False),
        (list(range(40)) * 4, True),
        (list(range(65)) * 4, False),
        ([1, 2, 3] * 11 + [4], False),
        ([], False),
    ],
)
def test_a_loop_is_four_repeats_over_32_tokens_at_the_very_end(token_ids, loops):
    """Red here means answers are cut that only look alike, or loops run to the token limit."""
    assert in_loop(token_ids) is loops


class OnlyEven:
    """Allows even ids until six are written, then nothing but the end."""

    def __init__(self, vocab_size, end):
        self._even = torch.arange(vocab_size) % 2 == 0
        self._end, self.pushed = end, []

    def allowed(self):
        if len(self.pushed) < 6:
            return self._even & (torch.arange(len(self._even)) != self._end)
        return torch.arange(len(self._even)) == self._end

    def push(self, token_id):
        self.pushed.append(token_id)


@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_a_constraint_decides_what_is_written_and_when_the_answer_may_end(
    model, tokenizer, temperature
):
    rule = OnlyEven(320, end=8)
    _, answer = decoding(
        model, tokenizer, temperature=temperature, stop_ids=frozenset({8}), constraint=rule
    )
    assert "".join(answer) == tokenizer.decode(answer.token_ids)
    assert answer.stop_reason is StopReason.END
    assert len(answer.token_ids) == 6
    assert all(token_id % 2 == 0 for token_id in answer.token_ids)
    assert rule.pushed == [*answer.token_ids, 8]


def test_a_constraint_that_allows_nothing_is_an_error_and_not_token_0():
    sampler = Sampler(Sampling(), torch.tensor([False, True]))
    with pytest.raises(ValueError, match="allows no token"):
        sampler.draw(torch.zeros(2), torch.tensor([False, True]))


def test_damaged_weights_end_in_an_error_and_not_in_text():
    sampler = Sampler(Sampling(), torch.tensor([False, False]))
    with pytest.raises(CheckpointError, match="damaged"):
        sampler.draw(torch.tensor([1.0, torch.nan]))
