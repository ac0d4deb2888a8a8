"""Source that is meant to break a parser: a bounded cost each, and a name for each that broke."""

import time

import pytest

from mm1cli.code import as_json, index_of
from mm1cli.code.parsed import MAX_KEPT, MAX_SCOPE
from mm1cli.ingest.corpus import Block, Corpus, Document
from mm1cli.ingest.readers.reader import MIB
from mm1cli.ingest.sandbox import Limits

QUICK = Limits(wall_s=20.0, cpu_s=2, memory_bytes=768 * MIB, reply_bytes=16 * MIB)


def corpus(**texts):
    kinds = {"py": "python", "js": "javascript", "c": "c", "rs": "rust", "toml": "toml"}
    return Corpus(
        tuple(
            Document(
                name.replace("_dot_", "."),
                kinds[name.rpartition("_dot_")[2]],
                len(text),
                "0" * 64,
                "text",
                (Block(text),),
            )
            for name, text in texts.items()
        )
    )


def read(**texts):
    facts = index_of(corpus(**texts), limits=QUICK, num_workers=1)
    assert len(facts.files) == len(texts)
    as_json(facts, definitions=True)
    return facts


def test_what_takes_for_ever_is_stopped_named_and_the_rest_is_read():
    """Red: one file hangs the run, is dropped in silence, or takes the next one with it."""
    began = time.monotonic()
    facts = read(a_dot_py="(" * 1_000_000, b_dot_py="def g():\n    pass\n")
    assert time.monotonic() - began < 30
    (stopped,) = facts.unparsed
    assert stopped.path == "a.py"
    assert "too long" in stopped.unparsed
    assert stopped.num_bytes == 1_000_000
    assert [d.name for d in facts.definitions] == ["g"]


def test_one_line_of_five_megabytes():
    """Red: a line without end takes memory or time without bound."""
    facts = read(a_dot_py="x = '" + "a" * 5_000_000 + "'\ndef f(): pass\n")
    assert [(d.name, d.first) for d in facts.definitions] == [("f", 2)]


def test_many_definitions_in_one_long_line():
    """Red: the cost of a definition grows with the length of its line."""
    facts = read(a_dot_js="function f(){} " * 18_000)
    assert not facts.unparsed
    assert len(facts.definitions) == 18_000


def test_twenty_thousand_lines():
    """Red: a long file is cut, or its lines are counted wrongly."""
    text = "".join(f"def f{n}():\n    return {n}\n\n\n" for n in range(5_000))
    facts = read(a_dot_py=text)
    assert facts.files[0].num_lines == 20_000
    assert facts.files[0].num_cut == 0
    assert [(d.name, d.first, d.last) for d in facts.definitions[-1:]] == [("f4999", 19997, 19998)]


def test_more_definitions_than_are_kept_are_counted():
    """Red: the memory of the parent is the file's to choose, or what is cut is not said."""
    facts = read(a_dot_js="function f(){}\n" * (MAX_KEPT + 7))
    assert len(facts.definitions) == MAX_KEPT
    assert facts.files[0].num_cut == 7


@pytest.mark.parametrize("depth", [400, 3_000])
def test_deep_nesting_needs_no_recursion(depth):
    """Red: a RecursionError, or names whose length grows with the square of the depth."""
    js = "".join(f"function f{n}(){{" for n in range(depth)) + "}" * depth
    rust = "use " + "a::{" * depth + "b" + "}" * depth + ";"
    lists = "x = " + "[" * depth + "]" * depth
    facts = read(a_dot_js=js, b_dot_rs=rust, c_dot_py=lists)
    assert not facts.unparsed
    assert sum(d.path == "a.js" for d in facts.definitions) == depth
    assert max(len(d.scope) for d in facts.definitions) == MAX_SCOPE
    assert facts.imports


@pytest.mark.parametrize(
    "text",
    [
        "def f(:\n    pass\n\ndef g():\n    return 1\n",
        "\x01\x02 def f()\nclass\ndef g():\n  pass\n",
        "}}}}\ndef g():\n    pass\n",
    ],
)
def test_invalid_syntax_is_read_around_and_named(text):
    """Red: one mistake hides a whole file, or nobody is told."""
    facts = read(a_dot_py=text)
    assert "g" in [d.name for d in facts.definitions]
    assert facts.files[0].first_error
    assert not facts.files[0].unparsed


def test_any_bytes_as_source():
    """Red: NUL, odd Unicode or a lone surrogate's stand-in ends the child or the run."""
    junk = "".join(map(chr, range(1, 0x3000))) + "\0" * 1000 + "\U0010ffff"
    facts = read(a_dot_py=junk, b_dot_js=junk, c_dot_c=junk, d_dot_rs=junk)
    assert not facts.unparsed
    assert all("\n" not in d.name for d in facts.definitions)


def test_a_declaration_that_is_not_valid_is_named():
    """Red: a broken pyproject.toml ends the run."""
    facts = read(pyproject_dot_toml="a = " + "[" * 5_000)
    assert facts.files[0].unparsed == "not valid"
