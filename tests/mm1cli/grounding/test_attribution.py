"""Red here means an answer is said to rest on a passage that has nothing to do with it."""

import pytest
from corpora import corpus
from hypothesis import given
from hypothesis import strategies as st

from engine.api import Turn
from engine.engine import Engine
from mm1cli.answering.prompt import PromptMap
from mm1cli.grounding.attribution import LogProbGain, attention, attribute, gains
from mm1cli.ingest.pack import pack
from mm1cli.prompts import prompt
from mm1cli.retrieval.passages import Ranked, passages, with_heading

QUESTION, ANSWER = "where is the rat?", "The rat is there."


@pytest.fixture(scope="module")
def engine(llama) -> Engine:
    return Engine(llama, chunk_tokens=64)


def likelihood(engine, text, answer=ANSWER):
    parts = (text, prompt("question"), QUESTION)
    turns = [Turn("system", (prompt("system"),)), Turn("user", parts)]
    asked = engine.tokenizer.encode_chat(turns)
    return engine.new_context().score(engine.tokenizer.encode(answer), given=asked)


def test_gain_is_the_likelihood_with_a_passage_less_that_without(engine):
    found = passages(corpus("The rat is there. It ate.", "1234567 words."))
    both = gains(engine, QUESTION, ANSWER, found)
    for gain, passage in zip(both, found, strict=True):
        wanted = likelihood(engine, with_heading(passage)) - likelihood(engine, "")
        assert gain.tokens == pytest.approx(wanted.tolist(), abs=1e-5)
        assert gain.mean == pytest.approx(float(wanted.mean()), abs=1e-5)
        assert gain.ends[-1] == len(ANSWER)
    assert both[0].mean != pytest.approx(both[1].mean, abs=1e-4)
    assert gains(engine, QUESTION, "", found) is None


@given(st.lists(st.tuples(st.floats(-9, 9), st.integers(1, 5)), min_size=1), st.data())
def test_the_gain_of_a_sentence_is_that_of_the_tokens_that_end_in_it(tokens, data):
    ends, at = [], 0
    for _, length in tokens:
        at += length
        ends.append(at)
    gain = LogProbGain(tuple(value for value, _ in tokens), tuple(ends))
    start = data.draw(st.integers(0, at))
    end = data.draw(st.integers(start, at))
    inside = [v for (v, _), e in zip(tokens, ends, strict=True) if start < e <= end]
    over = gain.over(start, end)
    assert over is None if not inside else over == pytest.approx(sum(inside) / len(inside))
    assert gain.over(0, at) == pytest.approx(gain.mean)


def test_the_tokens_of_a_passage_are_found_wherever_it_stands(engine):
    texts = corpus("The hat is here. The rat is there.", "Other words.")
    packed = pack(texts, engine.tokenizer)
    rat = next(s for p in passages(texts) for s in p.spans(1) if "rat" in s.text)
    again = f"Once more: {rat.text} And: {rat.text}"
    laid = PromptMap(5, ((400, again), (900, "nothing of the kind")))
    tokens = laid.tokens(rat, packed, engine.tokenizer)
    ids = [0] * 5 + packed.ids()
    ids += [0] * (400 - len(ids)) + engine.tokenizer.encode(again)
    assert engine.tokenizer.decode([ids[at] for at in sorted(tokens)]).count(rat.text) == 3
    assert len(tokens) == len(set(tokens)) and max(tokens) < len(ids)
    without = PromptMap(None, laid.pieces).tokens(rat, packed, engine.tokenizer)
    assert sorted(without) == sorted(at for at in tokens if at >= 400)


def test_attention_is_shared_out_between_places(engine):
    context = engine.new_context()
    context.extend(engine.tokenizer.encode(ANSWER * 5))
    answer = engine.tokenizer.encode(ANSWER)
    half = len(context) // 2
    first, rest, both = attention(
        context, answer, [range(half), range(half, len(context)), range(len(context))]
    )
    assert 0 < first < both < 1 and first + rest == pytest.approx(both, abs=1e-5)
    assert attention(context, [], [range(half)]) is None


def test_pieces_keep_their_order_and_each_gets_its_own_measures(engine):
    found = passages(corpus("The rat is there. It ate.", "1234567 words.", "A hat, a mat."))
    pieces = tuple(Ranked(passage, -float(rank)) for rank, passage in enumerate(found))
    context = engine.new_context()
    context.extend(engine.tokenizer.encode("abc"))
    places = [[0], [1], []]
    arguments = (context, QUESTION, ANSWER, engine.tokenizer.encode(ANSWER), pieces, places)
    found_all = attribute(engine, *arguments)
    assert [one.score for one in found_all] == [0.0, -1.0, -2.0]
    means = [one.gain.mean for one in found_all]
    assert len(set(means)) == 3
    of_passage = {id(one.passage): one for one in found_all}
    assert of_passage[id(found[2])].attention == 0 < of_passage[id(found[0])].attention
