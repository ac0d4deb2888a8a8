"""Red here means that a bare word is judged without its question, or an echo is believed."""

import pytest

from mm1cli.grounding.claims import Candidate, claims
from mm1cli.grounding.parts import normalize_lines
from mm1cli.grounding.replies import says_nothing, speak_of
from mm1cli.result import Mark


@pytest.mark.parametrize(
    ("question", "answer", "is_echo"),
    [
        ("Who manages the region East?", "East manages the region East.", True),
        ("Who manages the region East?", "Wanda Krol manages it.", False),
        ("Which is heavier, the lathe or the press?", "The press is heavier.", False),
        ("Is the press heavy?", "The press is heavy.", False),
        ("How many came?", "Nine came.", False),
    ],
)
def test_an_echo_answers_nothing(question, answer, is_echo):
    assert says_nothing(question, answer) is is_echo


def test_marks_are_those_of_the_answer_to_the_question():
    """Red: a bare number is carried by a quote that counts something else."""
    desk = Candidate(1, "Make the worktop 94 cm high.")
    lift = Candidate(2, "The lift is 78 cm wide.")

    def mark(question: str, answer: str) -> Mark:
        (claim,) = claims(answer, [desk, lift], question=question)
        return claim.mark

    assert mark("How high should the worktop be?", "94 cm") is Mark.CARRIED
    assert mark("How wide should the worktop be?", "94 cm") is not Mark.CARRIED
    assert mark("How wide should the worktop be?", "78 cm") is not Mark.CARRIED
    assert mark("What is the worktop?", "The worktop.") is not Mark.CARRIED


def test_quotes_about_something_else_are_told():
    assert speak_of("What does a place to park cost?", ["Parking costs 9."])
    assert not speak_of("What does a place to park cost?", ["Meals are paid up to 38."])


def test_an_answer_of_signs_is_judged_like_any():
    """Red: a model that writes a comma and nothing behind it ends the run."""
    (claim,) = claims("EUR is 5 and ?", [Candidate(1, "It is.")], question="What is it?")
    assert claim.mark is Mark.NOT_CARRIED


def test_what_counts_another_thing_is_not_against_a_figure():
    """Red: 32 hours a week are contradicted by 28 days of leave."""
    hours = Candidate(1, "The post has 32 hours. Jana Novak took it.")
    leave = Candidate(2, "Jana Novak works in Hask and has 28 days of leave a week.")
    asked = "How many hours a week does Jana Novak work?"
    (claim,) = claims("32 hours", [hours, leave], question=asked)
    assert claim.against == ()
    (claim,) = claims("33 hours", [hours, leave], question=asked)
    assert claim.against, "where no quote has the figure, what they have instead is told"


def test_cells_between_tabs_are_a_row_and_indented_code_is_not():
    """Red: code is judged as a table, in which the order of words says nothing."""
    assert normalize_lines("a b\nvan\tA7\n\tx\t9") == "a b\n| van | A7 |\n| x | 9 |"
    code = "def pay():\n\tvera.lend(jan)\n\t\treturn 12"
    assert "|" not in normalize_lines(code)
