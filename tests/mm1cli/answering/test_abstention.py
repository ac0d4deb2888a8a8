"""Red here means the shipped threshold is not asked, or does not tell what it is there to tell."""

import pytest
from commandline import SHORT


@pytest.fixture
def always_answers():
    """In place of the fixture that lets every other test have its answers."""


def told(mm1, model, notes, *questions):
    asked = [word for question in questions for word in ("--ask", question)]
    return mm1("analyze", notes, *asked, "--model", model, *SHORT, "--json").json["answers"]


@pytest.fixture
def shipped(mm1, monkeypatch):
    monkeypatch.delenv("MM1_ALWAYS_ANSWER")
    return mm1


def assert_only_the_first_is_answered(answers):
    answered, refused = answers
    assert answered["is_found"] and not answered["answer"].startswith("Not found in")
    assert not refused["is_found"] and refused["answer"].startswith("Not found in the ")


def test_a_random_model(shipped, llama, notes):
    """For it some passage makes the first question likelier by 1.9 nats a token, and all make the
    second less likely, by 2.9 at least."""
    questions = ("Why?", "where is the rat?")
    assert_only_the_first_is_answered(told(shipped, llama, notes, *questions))


@pytest.mark.mini
def test_the_embedded_model(shipped, mini_dir, notes):
    """The notes make the first question likelier by 2.6 nats a token, the second less by 1.1."""
    questions = ("where is the rat?", "Explain photosynthesis.")
    assert_only_the_first_is_answered(told(shipped, mini_dir, notes / "sub", *questions))
