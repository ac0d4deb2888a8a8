"""Red here means a line's score is not made of its own tokens."""

import math
from itertools import pairwise

import numpy as np
import pytest
from corpora import document
from hypothesis import given
from hypothesis import strategies as st

from mm1cli.ingest.pack import Span
from mm1cli.surprisal.lexer import lex
from mm1cli.surprisal.lines import KINDS, Recipe, file_tokens, rank_shares, score_lines

WORDS = [
    "x",
    "total",
    " = ",
    "1",
    "(",
    ")",
    "'a b'",
    "return ",
    "\n",
    "\n\n    ",
    "# why\n",
    ",\n  ",
]
programs = st.lists(st.sampled_from(WORDS), min_size=1, max_size=40).map("".join)
RECIPES = [
    Recipe(measure, normal, over)
    for measure in ("nats", "unexpected", "margin")
    for normal in ("raw", "centred", "scaled")
    for over in ("mean", "max", "top3", "sum")
]


@st.composite
def cut_files(draw, text=programs):
    """A file's text in tokens of a few characters, as no lexer would cut it, with scores."""
    program = draw(text)
    one = document(program, "a.py", "python", first=draw(st.integers(1, 9)))
    borders = sorted({0, len(program), *draw(st.lists(st.integers(0, len(program))))})
    cuts = list(pairwise(borders))
    spans = [None, *(Span(one.blocks[0], start, end) for start, end in cuts)]
    seed = draw(st.integers(0, 2**32 - 1))
    drawn = np.random.default_rng(seed).uniform(0, 9, (3, len(spans))).astype(np.float32)
    scores = np.stack([-drawn[0] - drawn[2], drawn[1], -drawn[2]])
    scores[:, 0] = np.nan
    return file_tokens(one, spans, scores, lex)


def by_hand(tokens) -> dict[int, list[int]]:
    """Indices of the tokens that count, by line, from the definition."""
    text, block = tokens.document.blocks[0].text, tokens.document.blocks[0]
    found: dict[int, list[int]] = {}
    lexemes = lex(text, "python")
    for index, (start, end) in enumerate(zip(tokens.starts, tokens.ends, strict=True)):
        piece = text[start:end]
        if not piece.strip():
            continue
        at = start + len(piece) - len(piece.lstrip())
        (holder,) = [one for one in lexemes if one.start <= at < one.end]
        if holder.kind.value != "comment":
            found.setdefault(block.first + text[:at].count("\n"), []).append(index)
    return found


@given(cut_files())
def test_lines_are_the_sum_of_their_tokens_and_every_line_with_code_is_there_once(tokens):
    expected = by_hand(tokens)
    (found,) = score_lines([tokens], Recipe("nats", "raw", "sum"))
    assert list(found.lines) == sorted(expected)
    for line, score in zip(found.lines, found.scores, strict=True):
        nats = [-float(tokens.scores[0, index]) for index in expected[int(line)]]
        assert score == pytest.approx(sum(nats), rel=1e-5)


@given(cut_files(), st.sampled_from(RECIPES))
def test_a_recipe_does_what_it_says(tokens, recipe: Recipe):
    (found,) = score_lines([tokens], recipe)
    log_p, entropy, best = tokens.scores.astype(float)
    measure = {"nats": -log_p, "unexpected": -log_p - entropy, "margin": best - log_p}
    value = measure[recipe.measure]
    counted = sorted(index for indices in by_hand(tokens).values() for index in indices)
    excess = value.copy()
    for kind in range(len(KINDS)):
        own = [index for index in counted if tokens.kinds[index] == kind]
        if own and recipe.normal != "raw":
            centre = np.median(value[own])
            spread = 1.4826 * np.median(np.abs(value[own] - centre))
            excess[own] -= centre
            excess[own] /= max(spread, 0.5) if recipe.normal == "scaled" else 1
    for line, score in zip(found.lines, found.scores, strict=True):
        own_values = sorted((excess[index] for index in by_hand(tokens)[int(line)]), reverse=True)
        total = math.fsum(own_values)
        expected = {
            "sum": total,
            "mean": total / len(own_values),
            "max": own_values[0],
            "top3": math.fsum(own_values[:3]),
        }[recipe.over]
        assert score == pytest.approx(expected, rel=1e-3, abs=1e-3)


@given(st.lists(cut_files(), min_size=1, max_size=3), st.floats(-5, 5))
def test_what_is_normal_for_a_whole_repository_is_not_surprising(files, shift: float):
    """Red: a repository of unusual style has surprises everywhere. Only ranks may show."""
    recipe = Recipe("nats", "centred", "max")
    plain = score_lines(files, recipe)
    for tokens in files:
        tokens.scores[0] -= shift
    for got, want in zip(score_lines(files, recipe), plain, strict=True):
        np.testing.assert_allclose(got.scores, want.scores, atol=1e-4)


def test_a_name_is_a_kind_of_its_own_where_it_is_first_mentioned():
    """Red: every definition and import is a surprise."""
    one = document("tall = tall + wide\n", "a.py", "python")
    words = [(0, 4), (4, 6), (6, 11), (11, 13), (13, 15), (15, 18), (18, 19)]  # wi de
    spans = [Span(one.blocks[0], start, end) for start, end in words]
    tokens = file_tokens(one, spans, np.zeros((3, len(words)), np.float32), lex)
    assert [KINDS[kind].value for kind in tokens.kinds] == [
        "first mention",
        "operator",
        "identifier",
        "operator",
        "first mention",
        "first mention",
        "white space",
    ]


def test_a_small_file_borrows_what_is_normal_from_the_others():
    """Red: in a file of one line nothing can be surprising."""

    def one_file(nats: list[float]):
        text = "1 " * len(nats)
        one = document(text, "a.py", "python")
        spans = [Span(one.blocks[0], 2 * i, 2 * i + 1) for i in range(len(nats))]
        scores = np.zeros((3, len(nats)), np.float32)
        scores[0] = np.negative(nats)
        return file_tokens(one, spans, scores, lex)

    large, small = one_file([1.0] * 200), one_file([9.0])
    recipe = Recipe("nats", "centred", "max")
    assert score_lines([small], recipe)[0].scores[0] == pytest.approx(0)
    assert score_lines([large, small], recipe)[1].scores[0] > 7


@given(st.lists(st.integers(0, 5), min_size=1))
def test_a_rank_share_counts_what_is_as_high_or_higher(scores: list[int]):
    expected = [sum(other >= one for other in scores) / len(scores) for one in scores]
    np.testing.assert_allclose(rank_shares(scores), expected, rtol=1e-6)
