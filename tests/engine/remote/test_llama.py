"""Red here means an answer over a real llama-server is not what the same model gives here."""

import time
from itertools import islice

import numpy as np
import pytest
import tiny
from ggufs import Kind, as_gguf_has_it, tiny_gguf, write_minimax_gguf
from llama_server import LlamaServer

from engine import api
from engine.api import KeyRefusedError, Level, Quotes, ServerError, TooLongError
from engine.protocols import StopReason
from engine.remote import quotes
from engine.remote.client import Client
from engine.remote.dialect import Request
from engine.remote.llama import LlamaServer as Dialect

pytestmark = pytest.mark.server

NUM_TOKENS = 4096
SAID = "the cat sat on the mat and the hat. Where the rat ate that? "
QUESTION = "Where is the rat? Straße 日 \0"  # a letter in parts, and what no grammar takes


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    template = {"tokenizer.chat_template": tiny.CHATML, "llama.context_length": NUM_TOKENS}
    return tiny_gguf(tmp_path_factory.mktemp("llama"), "llama", metadata=template)


@pytest.fixture(scope="module")
def server(gguf):
    with LlamaServer(gguf, NUM_TOKENS) as running:
        yield running


@pytest.fixture(scope="module")
def opened(server, gguf):
    engine, info, why = api.open_server(server.url, api.probe_server(server.url), gguf)
    assert (info.level, why) == (Level.A, "")
    return engine


def read(engine, text, *more):
    context = engine.new_context()
    context.extend(engine.tokenizer.encode(text), *more)
    return context


def assert_same_likelihood(here, there, num_tokens=300):
    ids = here.tokenizer.encode(SAID * 20)[:num_tokens]
    asked = here.tokenizer.encode(QUESTION)
    found = []
    for engine in (here, there):
        context = engine.new_context()
        context.extend(ids)
        found.append(np.array(context.score(asked).tolist()))
    assert len(found[1]) == len(asked)
    assert np.abs(found[0] - found[1]).max() < 5e-3


def test_the_likelihood_of_a_question_is_that_of_the_engine_here(opened, gguf):
    """Red: evidence stands in another order over a server."""
    assert_same_likelihood(api.open_engine(gguf, threads=1), opened)


def test_so_is_that_of_a_minimax_model(tmp_path):
    config = as_gguf_has_it(tiny.minimax_config(max_position_embeddings=512))
    weights = tiny.random_weights(config)
    metadata = {"tokenizer.chat_template": tiny.CHATML}
    path = write_minimax_gguf(tmp_path / "m1.gguf", config, weights, Kind.F32, metadata=metadata)
    with LlamaServer(path) as server:
        engine, info, _ = api.open_server(server.url, api.probe_server(server.url), path)
        assert info.has_ids and info.has_logprobs
        assert_same_likelihood(api.open_engine(path, threads=1), engine, 100)


def test_documents_are_read_once_and_the_server_says_so(opened):
    """Red: each question has the server read the documents again."""
    told = []
    documents = read(opened, "1904 " + SAID * 15, lambda *one: told.append(one))
    num_read, before = len(documents), documents.reused_tokens
    assert before < 9 and told[-1] == (num_read, num_read)
    read(opened, "something else " * 20, lambda *_: None).score([5])  # a judgement between
    asked = documents.fork()
    asked.extend(opened.tokenizer.encode("Why?"))
    decoding = opened.decode(asked.fork(), max_tokens=3)
    assert "".join(decoding) is not None and decoding.stop_reason in set(StopReason)
    assert asked.reused_tokens == num_read and documents.reused_tokens == before
    ids = list(documents.token_ids)
    assert documents.dialect.holds(ids)
    assert not documents.dialect.holds([*ids[:-2], 7, 8]), "what another context reads is restored"


def test_an_answer_repeats_with_its_seed_and_ends_where_it_must(opened):
    def answer(seed, **options):
        context = read(opened, SAID)
        decoding = opened.decode(context, max_tokens=24, temperature=1.5, seed=seed, **options)
        text = "".join(decoding)
        assert len(context) == len(opened.tokenizer.encode(SAID)) + len(decoding.token_ids)
        return text, decoding

    text, whole = answer(1)
    assert answer(1)[0] == text != answer(2)[0]
    letter = next(one for one in text if one.isascii() and one.isprintable())
    cut, stopped = answer(1, stop_texts=(letter,))
    assert (cut, stopped.stop_reason) == (text.partition(letter)[0], StopReason.STOP_TEXT)
    full = opened.decode(read(opened, SAID), max_tokens=9, max_positions=len(SAID))
    "".join(full)
    assert full.stop_reason in {StopReason.MAX_TOKENS, StopReason.CONTEXT_FULL, StopReason.LOOP}
    assert whole.token_ids


def test_closing_an_answer_stops_the_server(opened):
    """Red: Ctrl-C leaves a server at work for minutes, and the next question waits."""
    body = Request(opened.tokenizer.encode(SAID), NUM_TOKENS - 200, temperature=5.0, top_p=1.0)
    deltas = opened.new_context().dialect.generate(body)
    assert len(list(islice(deltas, 2))) == 2
    deltas.close()
    began = time.perf_counter()
    read(opened, "a").score(opened.tokenizer.encode("b"))
    assert time.perf_counter() - began < 1


def test_what_is_quoted_is_held_to_a_text_by_the_server(opened, server):
    """Red: a server takes the grammar and writes between marks what it likes."""
    assert opened.capabilities.has_quotes
    grammar = quotes.grammar([SAID])
    _, _, rules = grammar.partition("\n")
    free = '/[^"“„«]*"/'
    assert free in rules
    rules = rules.replace(free, '"\\""', 1)  # so that a quotation is what the answer begins with
    dialect = Dialect(Client(server.url))
    for seed in range(4):
        request = Request([5, 6], 20, 2.0, 1.0, seed, grammar=f"start: Q0\n{rules}")
        text = "".join(delta.text for delta in dialect.generate(request))
        assert text[0] == '"' and text.strip('"') in SAID, text
    context = read(opened, SAID)
    constraint = Quotes(lambda: api.suffix_array([SAID]), "", (SAID,))
    assert "".join(opened.decode(context, max_tokens=4, constraint=constraint)) is not None


def test_a_schema_is_followed_or_it_is_said(opened):
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}}
    schema |= {"required": ["n"], "additionalProperties": False}
    grammar = opened.grammar(schema)
    pieces = list(opened.decode(read(opened, SAID), max_tokens=60, constraint=grammar))
    text = "".join(pieces)
    assert len(pieces) == 1, "nothing is told before it was checked"
    assert '"n"' in text
    with pytest.raises(api.RoomError, match="--max-tokens"):
        "".join(opened.decode(read(opened, SAID), max_tokens=2, constraint=grammar))
    both = {"n": {"type": "integer"}, "m": {"type": "array", "items": {"type": "string"}}}
    two = opened.grammar({"type": "object", "properties": both, "required": ["n", "m"]})
    two.check('{"m": ["x"],\n "n": 1}', StopReason.END)  # JSON has no order
    for wrong in ('{"n": "a"}', "no"):
        with pytest.raises(ServerError):
            grammar.check(wrong, StopReason.END)


def test_another_tokenizer_is_refused(server, tmp_path):
    """Red: ids of one vocabulary are read as those of another."""
    other = tiny.write_tokenizer(tmp_path)
    engine, info, why = api.open_server(server.url, api.probe_server(server.url), other)
    assert info.level is Level.C and "is not the tokenizer" in why
    assert not engine.capabilities.has_logprobs


def test_what_is_too_long_and_a_wrong_key_are_one_line(opened, gguf):
    with pytest.raises(TooLongError, match="--context-tokens"):
        read(opened, SAID * 400, print)
    with LlamaServer(gguf, key="right") as guarded:
        for key, words in ((None, "wants a key"), ("wrong", "refuses the key")):
            with pytest.raises(KeyRefusedError, match=words) as caught:
                api.probe_server(guarded.url, key)
            assert "wrong" not in str(caught.value)
        info = api.probe_server(guarded.url, "right")
        engine, _, _ = api.open_server(guarded.url, info, gguf, "right")
        decoding = engine.decode(read(engine, "a"), max_tokens=400, temperature=5.0)
        pieces = iter(decoding)
        next(pieces)
        guarded.kill()
        with pytest.raises(ServerError, match="went away in the middle"):
            list(pieces)
        with pytest.raises(ServerError, match="no server answers there"):
            read(engine, "a").score([5])


@pytest.mark.parametrize("ranks", ["RANK", "MEAN"])
def test_texts_are_ordered_by_a_model_for_that(gguf, ranks):
    """Red: what a real server tells of texts is given to others, or refused."""
    texts = ["the cat", "Where is the rat?", "A mat!"]
    with LlamaServer(gguf, NUM_TOKENS, ranks=ranks) as ranking:
        info = api.probe_server(ranking.url, kind=api.Kind.OPENAI)
        assert info.ranking is not None and info.ranking.is_reranker is (ranks == "RANK")
        engine, _, _ = api.open_server(ranking.url, info, None)
        assert engine.capabilities.has_relevance and not engine.capabilities.has_logprobs
        found = engine.relevance(texts[1], texts)
        alone = [engine.relevance(texts[1], [text])[0] for text in texts]
    assert found == pytest.approx(alone, rel=1e-3) and len(set(found)) == 3
    assert ranks == "RANK" or found[1] == pytest.approx(1)
