"""Red here means that a model's sentence leads although it was not measured to be right, or that
evidence leads where a text must be written."""

from dataclasses import replace

import pytest
from commandline import SHORT

from mm1cli.answering import form
from mm1cli.answering.form import leading
from mm1cli.answering.question import Question
from mm1cli.models.ability import ABILITIES, Ability, measured
from mm1cli.result import Form
from mm1cli.settings import Settings

ASKED = Question("Why?")
ABLE = Ability("able", "a", num_right=9, num_wrong=1)
UNABLE = Ability("unable", "u", num_right=4, num_wrong=6)
LEAST = form.LEAST_RELIABILITY


@pytest.fixture(autouse=True)
def shipped(monkeypatch, always_answers):
    monkeypatch.setattr(form, "LEAST_RELIABILITY", LEAST)


@pytest.mark.parametrize(
    ("ability", "wanted"), [(ABLE, Form.WRITTEN), (UNABLE, Form.EXTRACT), (None, Form.EXTRACT)]
)
def test_a_sentence_leads_only_where_this_models_were_right(ability, wanted):
    """Red: the size or the name of a model decides, or an unknown one is trusted."""
    assert leading(Settings(), ability, ASKED) is wanted


@pytest.mark.parametrize(
    ("settings", "question"),
    [
        (replace(Settings(), write=True), ASKED),
        (Settings(), replace(ASKED, schema={"type": "object"})),
        (Settings(), replace(ASKED, is_instruction=True)),
    ],
)
def test_a_text_is_written_where_one_is_asked_for(settings, question):
    """Red: --write, --schema or a template gets a piece of a document instead of its answer."""
    assert leading(settings, UNABLE, question) is Form.WRITTEN


def test_figures_belong_to_weights_not_to_names():
    """Red: another file of the same name gets the figures of one that was measured."""
    assert all(measured(known) is one for one in ABILITIES for known in one.fingerprints)
    assert measured("mini") is None and measured("") is None


def test_the_evidence_leads_word_for_word_and_the_words_follow_only_if_it_carries_them(
    mm1, llama, notes, monkeypatch
):
    """Red: an extract is not the first citation's text, tokens differ from the answer, or words
    that nothing carries stand beside it. A random model's are never carried."""
    monkeypatch.delenv("MM1_WRITE")
    asked = ("analyze", notes, "--ask", "where is the rat?", "--model", llama, *SHORT)
    answer = mm1(*asked, "--json").json["answers"][0]
    assert answer["form"] == "extract"
    first = answer["citations"][0]
    assert answer["answer"] == first["text"] and first["kind"] == "evidence"
    assert answer["words"] == "" and answer["unverified"] == []
    for claim in answer["claims"]:
        said = answer["answer"][claim["start"] : claim["end"]].casefold()
        carriers = [answer["citations"][number - 1] for number in claim["citations"]]
        assert all(said.strip(" .!?") in one["text"].casefold() for one in carriers)

    told = mm1(*asked)
    assert told.out.startswith(first["text"] + "\n\n[1] ")
    assert "how often this model is right was never measured" in told.err
    # Its place is told, its text not twice.
    assert f"[1] {first['path']}, {first['locator']['display']}\n[2]" in told.out

    written = mm1(*asked, "--write", "--json").json["answers"][0]
    assert written["form"] == "written" and written["answer"] != first["text"]
