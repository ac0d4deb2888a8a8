"""Red here means thinking leaks into an answer, an answer into thinking, or thinking never ends."""

import json

import pytest
import tiny
import torch
from commandline import write_talkative
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import placement
from engine.api import Turn
from engine.decode import Decoding
from engine.engine import Engine
from engine.layers.kv_cache import KVCache
from mm1cli.answering import json_schema
from mm1cli.answering.generation import Generator, thinking_tokens
from mm1cli.settings import Settings

OPENED = tiny.CHATML.replace("assistant\n'", "assistant\n<think>\n'")
STOP = 2


class Script:
    """Draws what the script says, but never what is not allowed."""

    is_greedy = False

    def __init__(self, ids):
        self._ids = ids

    def draw(self, logits, allowed=None):
        drawn = next(self._ids, STOP)
        if allowed is not None and not bool(allowed[drawn]):
            return int(logits.masked_fill(~allowed, -float("inf")).argmax())
        return drawn


class Scripted(Engine):
    """Writes the text it is given, however often it is asked to go on, then ends its turn."""

    def says(self, text):
        self._script = iter(self.tokenizer.encode_markup(text))
        return self

    def decode(self, context, *, max_tokens, constraint=None, stop_texts=(), stop_ids=(), **rest):
        return Decoding(
            context,
            self.tokenizer,
            Script(self._script),
            max_tokens=max_tokens,
            max_positions=rest["max_positions"] or 4096,
            stop_ids=frozenset({STOP, *stop_ids}),
            stop_texts=stop_texts,
            constraint=self.mask(constraint),
        )


class Heard:
    def __init__(self):
        self.tokens, self.thoughts, self.stages = [], [], []


def made(folder, **options):
    return Scripted(tiny.write_checkpoint(folder, tiny.llama_config(), **options), threads=1)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return made(tmp_path_factory.mktemp("plain") / "m")


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return made(tmp_path_factory.mktemp("opened") / "m", template=OPENED)


def write(engine, text, grammar=None, **changes):
    heard = Heard()
    writer = Generator(
        engine,
        Settings(**{"max_tokens": 60, "think": "show"} | changes),
        on_token=heard.tokens.append,
        on_thinking=heard.thoughts.append,
        on_progress=lambda stage, *rest: heard.stages.append(stage),
    )
    heard.context = engine.new_context()
    heard.context.extend(engine.tokenizer.encode("the cat"))
    written = writer.generate(heard.context, grammar)
    assert written is not None and engine.says("") is engine
    heard.read = engine.tokenizer.decode(heard.context.token_ids)
    return written, heard


def run(engine, text, **changes):
    engine.says(text)
    return write(engine, text, **changes)


WORDS = st.text("thinkase <>/.\n", max_size=20).filter(lambda t: "<think>" not in t)


@settings(max_examples=60, deadline=None)
@given(WORDS, WORDS)
def test_thinking_and_answer_are_told_apart(plain, thought, answer):
    """Red: a tag cut between tokens is printed, or letters beside it are lost."""
    thought, answer = thought.replace("</think>", ""), answer.replace("</think>", "")
    written, heard = run(plain, f"<think>{thought}</think>\n\n{answer}")
    assert written.thinking == thought == "".join(heard.thoughts)
    assert written.text == answer.lstrip() == "".join(heard.tokens)
    assert heard.read.count("</think>") == 1


@pytest.mark.parametrize("text", ["The rat.", " <thin", "<thinking aloud", "", "1 < 2 <think>"])
def test_an_answer_without_thinking_is_whole(plain, text):
    """Red: an answer that begins like a tag loses its beginning."""
    written, heard = run(plain, text)
    assert (written.text, written.thinking) == (text, "")
    assert "".join(heard.tokens) == text


def test_a_template_that_opens_the_tag(opened):
    """Red: all thinking of such a model is printed as its answer."""
    written, _ = run(opened, "the rat\n</think>\n\nThe hat.")
    assert (written.thinking, written.text) == ("the rat\n", "The hat.")
    assert thinking_tokens(opened.tokenizer, Settings(max_thinking=5)) > 5


@pytest.mark.parametrize("most", [0, 1, 7])
def test_thinking_is_ended_where_it_is_too_long(opened, most):
    """Red: --max-thinking is not kept, or costs tokens of the answer."""
    written, heard = run(opened, "that " * 40, max_thinking=most, max_tokens=9)
    assert written.num_thinking_tokens == most
    assert len(written.token_ids) == 9
    before, tag, after = heard.read.partition("</think>")
    assert tag and before.endswith(written.thinking)
    assert written.text.startswith(after.strip())
    assert "</think>" not in written.text + written.thinking


def test_a_turn_that_ends_while_thinking_is_gone_on_with(opened):
    """Red: a model that forgets its closing tag gives an empty answer."""
    opened.says("the rat")
    script = opened._script
    written, heard = write(opened, "")
    assert written.thinking == "the rat" and next(script, None) is None
    assert heard.read.endswith("the rat</think>")
    assert written.text == "" and written.stop_reason == "end"


def test_json_begins_behind_the_thinking(opened):
    """Red: with --schema a thinking model may not think, or its thoughts are in the JSON."""
    grammar = opened.grammar(json_schema.parse("cat str, age int"))
    opened.says('so {"it": 1}</think>"<think>"')
    written, _ = write(opened, "", grammar=grammar)
    assert written.thinking == 'so {"it": 1}'
    assert set(json.loads(written.text)) == {"cat", "age"}


def test_hide_show_and_only(opened):
    """Red: hidden thinking is shown, or `only` prints an answer."""
    text = "the rat</think>The hat."
    written, heard = run(opened, text, think="hide")
    assert (heard.thoughts, "".join(heard.tokens), written.thinking) == ([], "The hat.", "the rat")
    assert set(heard.stages) == {"thinking"}
    written, heard = run(opened, text, think="only")
    assert ("".join(heard.thoughts), heard.tokens, written.text) == ("the rat", [], "")


def test_tags_that_are_control_tokens(tmp_path):
    """Red: a tag that no text shows is missed, and thinking becomes the answer."""
    raw = tiny.tokenizer_json()
    first = max(raw["model"]["vocab"].values()) + 1
    for number, tag in enumerate(["<think>", "</think>"]):
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        token = {"id": first + number, "content": tag, "special": True} | flags
        raw["added_tokens"].append(token)
    directory = tmp_path / "m"
    tiny.write_checkpoint(directory, tiny.llama_config(), template=OPENED)
    tiny.write_tokenizer(directory, raw=raw, template=OPENED)
    written, heard = run(Scripted(directory, threads=1), "the rat</think>The hat.")
    assert (written.thinking, written.text) == ("the rat", "The hat.")
    assert heard.context.token_ids.count(first + 1) == 1


def test_a_long_thought_of_a_hybrid_takes_keys_as_planned_and_nothing_else(tmp_path):
    """Red: what Lightning layers keep grows with what is thought, keys and values take more than
    was planned, or the budget ends no thought."""
    folder = write_talkative(tmp_path / "m", "minimax")
    opened = tiny.LISTED.replace("ai\n' -}}{%- endif", "ai\n<think>\n' -}}{%- endif")
    assert opened != tiny.LISTED
    engine = Engine(tiny.write_tokenizer(folder, template=opened), threads=1)
    context = engine.new_context()
    context.extend(engine.tokenizer.encode_chat([Turn("user", ("where is the rat?",))]))
    states = [one.num_bytes for one in context.states if not isinstance(one, KVCache)]
    changes = {"max_thinking": 260, "temperature": 1.0, "top_p": 0.95, "max_tokens": 4}
    ignore = dict.fromkeys(("on_token", "on_thinking", "on_progress"), lambda *_: None)
    written = Generator(engine, Settings(**changes), **ignore).generate(context)
    assert (written.num_thinking_tokens, len(written.token_ids)) == (260, 4)
    assert [x.num_bytes for x in context.states if not isinstance(x, KVCache)] == states
    kept = sum(one.num_bytes for one in context.states if isinstance(one, KVCache))
    planned = placement.plan(engine.config, len(context), 1024, torch.float32).kv_bytes
    assert len(states) == 3 and kept == planned
