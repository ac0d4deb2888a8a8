import pytest
from corpora import corpus

from engine.engine import Engine
from mm1cli.answering.prompt import Focus
from mm1cli.retrieval.question_parts import question_parts, search_words
from mm1cli.retrieval.retriever import Retriever


@pytest.mark.parametrize(
    ("question", "parts"),
    [
        ("Who built X, and when did it open?", ["Who built X", "when did it open?"]),
        ("Who built it and when did it open?", ["Who built it", "when did it open?"]),
        ("Who is treasurer? In which year was she chosen?", None),
        (
            "Which pumps may run dry, and for how long?",
            ["Which pumps may run dry", "for how long?"],
        ),
        ("Where is the hat, what is it made of?", ["Where is the hat", "what is it made of?"]),
    ],
)
def test_a_question_of_two_parts_is_cut_in_two(question: str, parts: list[str] | None):
    """Red: only one half of what was asked is looked for."""
    found = question_parts(question)
    assert len(found) == 2
    assert parts is None or found == parts


@pytest.mark.parametrize(
    "question",
    [
        "What did the crossing cost?",
        "Who has to repair the roof of the bookshop, which stands in Unit 3?",
        "Why was the tree not cut down although an inspection asked for it?",
        "Salt and pepper?",
        "Tell me where it is, and who it is for, and why it is there, and how it got there.",
        "",
    ],
)
def test_a_question_of_one_part_stays_whole(question: str):
    """Red: a relative clause is searched for as if it were the question."""
    assert question_parts(question) == [question]


def test_a_part_that_points_back_is_searched_with_what_it_points_to():
    """Red: "when did it open" finds any opening."""
    question = "Who built the crossing, and when did it open?"
    first, second = question_parts(question)
    assert "crossing" in search_words(second, question)
    assert search_words(first, question) == first
    assert search_words("where is it?", "where is it?") == "where is it?"


def test_both_places_are_found_first_and_both_read_again(llama):
    """Red: the second half of a question is answered from the first half's place."""
    texts = ["Calder built the crossing.", "The crossing did open in May."]
    texts += [f"Nothing of note happened on day {n}." for n in range(30)]
    found = Retriever(Engine(llama, chunk_tokens=64), corpus(*texts)).find(
        "Who built the crossing, and when did the crossing open?", lambda *_: None
    )
    assert found.num_parts == 2
    asked = {one.passage.text for one in found.passages[:2]}
    assert len(asked) == 2 and asked <= {one.passage.text for one in found.passages}
    again = Focus(None).repeated_evidence(found, "", are_passages_read=True)
    assert again == [one.passage.text for one in reversed(found.pieces[:2])] and len(again) == 2
    places = [(id(one.passage.block), one.passage.start) for one in found.passages]
    assert len(set(places)) == len(places)
