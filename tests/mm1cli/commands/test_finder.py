"""Red here means that --finder finds nothing, reads less than it says, or is ignored in silence."""

import pytest
from commandline import ASK, POSITIONS, SHORT

from mm1cli.answering.context_source import CachedContext
from mm1cli.answering.finder import Finder
from mm1cli.commands import finding
from mm1cli.retrieval.attended import Attended


@pytest.fixture
def other(checkpoints):
    """Who answers: other weights than those that read."""
    return checkpoints["minimax"]


def asked_of(finder, other, large, *options):
    run = ("analyze", large, "--model", other, "--finder", finder, *SHORT, "--json", *options)
    return (*run, "--ask", ASK)


def test_what_the_finder_attends_to_is_read(mm1, calibrated, other, large, monkeypatch):
    """Red: the question shares no word with the passage, and words alone decide."""
    scanned = []

    def attended(self, question):
        packed = self._prefiller._packed
        shares = [0.0] * len(packed.ids())
        (fact,) = (one for one in packed.corpus.documents if one.path.endswith("fact.txt"))
        for at in packed.tokens(fact, fact.blocks[0], 0, 5):
            shares[at] = 0.2
        scanned.append(question)
        return Attended(packed, shares, 0)

    monkeypatch.setattr(Finder, "attended", attended)
    run = asked_of(calibrated, other, large, "--search", "model", "--focus", 1)[:-2]
    ran = mm1(*run, "--ask", "whom did it bite?")
    assert ran.code == 0, ran.err
    assert scanned == ["whom did it bite?"]
    read = [one["path"] for one in ran.json["answers"][0]["read"]]
    assert any(path.endswith("fact.txt") for path in read)


def test_all_is_read_once_and_kept(mm1, calibrated, other, large, monkeypatch):
    """Red: each run reads all of it again."""
    first = mm1(*asked_of(calibrated, other, large))
    assert first.code == 0, first.err
    assert first.json["manifest"]["plan"] == "retrieval"
    assert "tokens once; what a question attends to" in first.err
    assert "do not fit" not in first.err
    kept = mm1("cache", "show", "--json").json["kept"]
    asked = []
    get = CachedContext.get

    def watched(self, token_ids, *rest):
        found = get(self, token_ids, *rest)
        asked.append((len(token_ids), found.reused_tokens))
        return found

    monkeypatch.setattr(CachedContext, "get", watched)
    again = mm1(*asked_of(calibrated, other, large))
    assert again.json["answers"][0]["answer"] == first.json["answers"][0]["answer"]
    ((wanted, reused),) = asked
    assert wanted > POSITIONS and reused == wanted and len(kept) == 1


def test_a_context_to_select_from_is_asked_by_another_model(
    mm1, calibrated, other, large, tmp_path
):
    built = mm1(
        *("context", "build", large, "-o", tmp_path / "c", "--model", calibrated),
        *("--fit", "select"),
    )
    assert built.code == 0, built.err
    asked = mm1("ask", tmp_path / "c", ASK, "--model", other, *SHORT[:2], "--json")
    assert asked.code == 0, asked.err
    assert "answered by" in asked.err
    analyzed = mm1(*asked_of(calibrated, other, large))
    assert asked.json["answers"][0]["answer"] == analyzed.json["answers"][0]["answer"]
    assert asked.json["model"] == analyzed.json["model"]


def test_what_fits_needs_no_finder(mm1, calibrated, other, notes):
    ran = mm1(*asked_of(calibrated, other, notes))
    assert ran.code == 0, ran.err
    assert "has nothing to do" in ran.err


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--fit", "select"), 2, "both read what does not fit"),
        (("--template", "compare"), 2, "fills a table"),
    ],
)
def test_what_it_does_not_go_with_is_told(mm1, calibrated, large, options, code, words):
    run = ("analyze", large, "--model", calibrated, "--finder", calibrated, *options)
    ran = mm1(*run, "--ask", ASK)
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err.splitlines()[-1]


def test_more_than_one_context_holds_is_told(mm1, calibrated, other, large, monkeypatch):
    monkeypatch.setattr(finding, "MOST_TOKENS", POSITIONS)
    ran = mm1(*asked_of(calibrated, other, large))
    assert ran.code == 4 and "leave some out with --exclude" in ran.err


def test_a_finder_that_nobody_measured_is_told_what_to_do(mm1, llama, other, large):
    ran = mm1(*asked_of(llama, other, large))
    assert ran.code == 7
    assert "mm1 models calibrate" in ran.err
