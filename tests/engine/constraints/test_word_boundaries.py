"""Where quotations may begin and end."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.constraints.word_boundaries import word_boundaries


def cuts(text: str) -> str:
    """`text` with a bar wherever a quotation may begin or end."""
    begins, ends = word_boundaries(text)
    assert len(begins) == len(ends) == len(text) + 1
    bars = ["|" if begin or end else "" for begin, end in zip(begins, ends, strict=True)]
    return "".join(bar + character for bar, character in zip(bars, [*text, ""], strict=True))


@pytest.mark.parametrize(
    "whole",
    [
        "unable",
        "48.2",
        "1,904,000",
        "12:30",
        "-5",
        ".5",
        "−0.5",
        "don't",
        "won’t",
        "non-negotiable",
        "snake_case",
        "nai\u0308ve",
        "हिन्दी",
    ],
)
def test_no_word_number_or_negation_is_cut(whole: str):
    """Red: “able to swim” is quoted from “unable to swim”, or 2 million from 48.2."""
    assert cuts(whole) == f"|{whole}|"
    assert cuts(f"So {whole}, yes").split("|").count(whole) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b", "|a| |b|"),
        ("see p.12.", "|see| |p|.|12|.|"),
        ("(he said “yes”)", "|(|he| |said| |“|yes|”|)|"),
        ("港の歴史", "|港|の|歴|史|"),
        ("", ""),
        (" ", " "),
    ],
)
def test_quotations_may_begin_and_end_at_every_word(text: str, expected: str):
    """Red: what could be quoted cannot."""
    assert cuts(text) == expected


@given(st.text())
def test_none_begins_with_space_or_ends_behind_it(text: str):
    """Red: quotations come with the space around them."""
    begins, ends = word_boundaries(text)
    assert not begins[-1] and not ends[0]
    for at, character in enumerate(text):
        if character.isspace():
            assert not begins[at] and not ends[at + 1]
        if unicodedata.category(character).startswith("M"):
            assert not begins[at] and not ends[at], "an accent is taken off its letter"
