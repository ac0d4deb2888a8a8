"""Red here means that a run keeps to itself that documents disagree, or that none names what was
asked."""

import pytest
from commandline import SHORT

from mm1cli.answering import form

LEAST = form.LEAST_RELIABILITY
EARLIER = "Lease of unit 9, made on 4 May 2021.\n\nThe rent of unit 9 is 740 a month.\n"
LATER = "Amendment of 2 June 2023.\n\nThe rent of unit 9 is 815 a month.\n"
ASKED = "What is the rent of unit 9?"


@pytest.fixture
def leases(no_settings, tmp_path, monkeypatch):
    folder = tmp_path / "leases"
    folder.mkdir()
    (folder / "a.txt").write_text(EARLIER)
    (folder / "b.txt").write_text(LATER)
    monkeypatch.delenv("MM1_WRITE")
    monkeypatch.setattr(form, "LEAST_RELIABILITY", LEAST)
    return folder


def test_both_values_are_told_with_dates_and_the_later_leads(mm1, llama, leases, tmp_path):
    """Red: the earlier value is given without a word, in the terminal, JSON or the page."""
    page = tmp_path / "report.html"
    asked = ("analyze", leases, "--ask", ASKED, "--model", llama, *SHORT)
    answer = mm1(*asked, "--json", "--report", page).json["answers"][0]
    (warning,) = answer["warnings"]
    assert warning["kind"] == "disagree" and warning["citations"] == [1, 2]
    values = "“815” [1] (b.txt, 2023-06-02), “740” [2] (a.txt, 2021-05-04)"
    said = f"{values}; the first is later, by date"
    assert said in warning["text"]
    assert "815" in answer["citations"][0]["text"] and "740" in answer["citations"][1]["text"]
    assert "815" in answer["answer"]
    html = page.read_text()
    assert said in html and "Word for word from" in html

    told = mm1(*asked)
    assert f"warning: the documents disagree: {said}" in told.out
    led = told.out.split("\n\n[1] ")[0]
    assert "815" in led and "740" not in led


def test_a_year_that_no_document_names(mm1, llama, leases):
    """Red: last year's rent is given for that of a year nobody wrote about."""
    ask = "What was the rent of unit 9 in 1998?"
    ran = mm1("analyze", leases, "--ask", ask, "--model", llama, *SHORT, "--json")
    texts = [one["text"] for one in ran.json["answers"][0]["warnings"]]
    assert texts == ["the documents may not answer this: none of them names “1998”"]


def test_a_schema_gets_no_warnings(mm1, llama, leases):
    """Red: a program that asked for fields gets sentences about one."""
    asked = ("--ask", ASKED, "--schema", "rent int", "--model", llama, *SHORT, "--json")
    answer = mm1("analyze", leases, *asked).json["answers"][0]
    assert answer["warnings"] == [] and answer["form"] == "written"
