"""Red here means tokens are compared with tokens of another kind, or comments are ranked."""

import io
import time
import tokenize
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm1cli.surprisal import lexer
from mm1cli.surprisal.lexer import LANGUAGES, Kind, lex

PIECES = ['"""', "'''", "/*", "*/", "//", "#", "--", "{-", "'", '"', "`", "\\", "\n", "a1", "0x1F "]
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=20).map("".join)


@given(texts, st.sampled_from([*sorted(LANGUAGES), "unheard of"]))
def test_every_visible_character_is_in_exactly_one_lexeme(text: str, language: str):
    at = 0
    for lexeme in lex(text, language):
        assert at <= lexeme.start < lexeme.end
        assert not text[at : lexeme.start].strip()
        assert lexeme.kind is not Kind.SPACE
        at = lexeme.end
    assert not text[at:].strip()


def kinds(text: str, language: str) -> list[tuple[str, str]]:
    return [(lexeme.kind.value, text[lexeme.start : lexeme.end]) for lexeme in lex(text, language)]


@pytest.mark.parametrize("path", [Path(lexer.__file__), Path(__file__), Path(tokenize.__file__)])
def test_python_is_cut_as_python_cuts_it(path: Path):
    """Against the standard library's own tokenizer, documentation strings aside."""
    text = path.read_text(encoding="utf-8")
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = {lexeme.start: lexeme for lexeme in lex(text, "python")}
    num_compared = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        wanted = {
            tokenize.NAME: {Kind.IDENTIFIER, Kind.KEYWORD},
            tokenize.NUMBER: {Kind.NUMBER},
            tokenize.STRING: {Kind.STRING, Kind.COMMENT},
            tokenize.COMMENT: {Kind.COMMENT},
        }.get(token.type)
        if wanted is None:
            continue
        num_compared += 1
        start = starts[token.start[0] - 1] + token.start[1]
        assert found[start].kind in wanted, token
        assert text[start : found[start].end] == token.string
    assert num_compared > 100


def test_documentation_is_a_comment_and_a_string_that_is_used_is_none():
    text = '"""Module."""\ndef f():\n    "What it does."\n    x = (\n        "a"\n        "b")\n'
    assert kinds(text, "python")[0] == ("comment", '"""Module."""')
    assert ("comment", '"What it does."') in kinds(text, "python")
    used = [kind for kind, word in kinds(text, "python") if word in {'"a"', '"b"'}]
    assert used == ["string", "string"]


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("rust", "f(&'a str) // x", [("identifier", "str"), ("comment", "// x")]),
        ("go", "x := `a\nb` /* c\n */", [("string", "`a\nb`"), ("comment", "/* c\n */")]),
        ("shell", "if [ $x ]; # y", [("keyword", "if"), ("comment", "# y")]),
        (
            "sql",
            "select 'it' -- z",
            [("keyword", "select"), ("string", "'it'"), ("comment", "-- z")],
        ),
        ("haskell", "foldl' f {- q -} 1.5", [("comment", "{- q -}"), ("number", "1.5")]),
        ("javascript", "return 'a\\'b'", [("keyword", "return"), ("string", "'a\\'b'")]),
    ],
)
def test_languages_have_their_own_comments_and_strings(language, text, expected):
    found = kinds(text, language)
    assert [one for one in found if one in expected] == expected


@pytest.mark.parametrize("text", ["/*", '"""', "'\\\"", "`", '"\\', "{-"])
@pytest.mark.parametrize("language", ["python", "go", "haskell"])
def test_hostile_text_takes_time_in_proportion(text: str, language: str):
    """Red: a file of opening quotes keeps a review busy for hours."""
    began = time.process_time()
    lex(text * 20_000, language)
    assert time.process_time() - began < 5, "quadratic: a minute and more"
