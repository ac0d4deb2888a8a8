"""Red here means that evidence looks better, or worse, than it is on the set it is measured on."""

import pytest
from commandline import write_talkative
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.evidence.__main__ import COMMAND, Asked, build
from benchmarks.evidence.library import Library
from benchmarks.evidence.report import _ordered, best_threshold, right_without
from benchmarks.quality.subject import Subject
from benchmarks.quality.work import Work
from engine.engine import Engine
from tests.evidence.corpus import questions


@pytest.fixture(scope="module")
def library() -> Library:
    return Library()


@pytest.fixture(scope="module")
def subject(tmp_path_factory) -> Subject:
    folder = write_talkative(tmp_path_factory.mktemp("models") / "llama", "llama")
    return Subject("tiny", Engine(folder, chunk_tokens=512, threads=1))


def test_every_gold_passage_is_cut_into_passages_that_are_gold(library):
    for question in questions():
        gold = [one for one in library.passages if library.is_gold(question, one)]
        paths = {one.document.path for one in gold}
        assert paths == {one.path for one in question.gold}
        assert len(gold) <= 2 * len(question.gold)
        for one in gold:
            assert library.at(*library.place(one)) == one


def test_the_baseline_finds_words_and_nothing_twice(library):
    question = "Which cable was stolen from the yard at Thornby?"
    pieces = library.plain_pieces.search(question, 5)
    assert "Copper cable was stolen" in pieces[0].text and len(pieces) == 5
    for number, one in enumerate(pieces):
        assert not any(one.overlaps(other) for other in pieces[number + 1 :])


scored = st.lists(st.tuples(st.floats(-5, 5), st.booleans()), min_size=1, max_size=12)


@given(scored)
def test_no_other_threshold_makes_fewer_mistakes(pairs):
    def mistakes(border):
        return sum((value >= border) != positive for value, positive in pairs)

    best = mistakes(best_threshold(pairs))
    assert all(best <= mistakes(value) for value, _ in pairs)
    assert best <= min(mistakes(-100.0), mistakes(100.0))


def test_the_question_that_is_tried_has_no_say_in_the_threshold():
    pairs = [(1.0, True), (2.0, True), (0.0, False), (5.0, False)]
    assert [right_without(n, pairs) for n in range(4)] == [True, True, False, False]


def test_pieces_are_ordered_by_the_weights_that_the_row_names():
    pieces = [[True, -2.0, 3.0, 0.0], [False, -1.0, 0.0, 0.1], [False, -3.0, None, None]]
    assert _ordered(pieces, 0.0, 0.0) == [False, True, False]
    assert _ordered(pieces, 0.5, 0.0)[0] is True
    assert _ordered(pieces, 0.5, 9.0)[0] is False


def test_what_is_measured_is_the_products_own_and_is_not_measured_twice(library, subject, tmp_path):
    """Red: numbers of another path than the product's, or hours lost to a kill."""
    cache = tmp_path / "results.jsonl"
    options = COMMAND.parser().parse_args(["--questions", "2", "--answers", "1"])
    table = build([subject], options, Work(cache))
    rows = {(row.condition["of"], row.measure): row.cells for row in table.rows}
    for k in (1, 5):
        assert set(rows["passages", f"recall@{k}"]) == {"tiny", "search", "bm25 alone"}
        assert set(rows["pieces", f"recall@{k}"]) == {"tiny", "bm25 alone"}
    asked = [question for question in questions()[:2] if question.gold]
    assert rows["passages", "recall@1"]["tiny"].num == len(asked)
    exact = rows["answers", "quotes exact"]["tiny"]
    assert exact.value == 1 and exact.num >= 3

    lines = cache.read_text().count("\n{")
    assert lines == 3  # two ranked, one answered
    again = build([subject], options, Work(cache))
    assert again.as_text() == table.as_text()
    assert cache.read_text().count("\n{") == lines

    world = Asked.of(subject, library)
    found = world.retriever.find(asked[0].text, lambda *_: None)
    ranked = world.rank(asked[0])
    assert [one[1] for one in ranked["passages"]] == [one.score for one in found.passages]
    assert world._ranked(ranked["pieces"]) == found.pieces
