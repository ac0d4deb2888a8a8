"""Red here means that a run is silent where documents disagree, cries wolf where they do not, or
puts what no longer holds first."""

import json
from pathlib import Path

import pytest

from mm1cli.grounding import conflicts
from mm1cli.grounding.conflicts import NEAR, disagreement, later_first
from mm1cli.grounding.document_dates import age, compare
from mm1cli.ingest.corpus import Block, Document
from mm1cli.retrieval.passages import Passage, Ranked
from mm1cli.retrieval.retriever import Evidence

SETS = Path(__file__).parents[2] / "evidence"
PAIRS = [json.loads(line) for line in (SETS / "superseding.jsonl").read_text().splitlines()]
RENT = "What is the rent of unit 9?"


def passage(path: str, text: str, unit: str = "line", kind: str = "text") -> Passage:
    block = Block(text, unit=unit)
    return Passage(Document(path, kind, 1, "0", "r", (block,)), block, 0, len(text))


def last_piece(name: str, text: str) -> Ranked:
    """Where the answer stands, cut as `Retriever` cuts it."""
    whole = passage(name, text, "row" if name.endswith(".csv") else "line")
    spans = whole.spans(2)
    return Ranked(spans[0 if name.endswith(".csv") else -1], -1.0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # The same value, other words around it.
        ("The rent of unit 9 is 740 a month.", "Rent of unit 9: 740 a month, as before."),
        # Another thing is told apart by the question itself.
        ("The rent of unit 9 is 740 a month.", "The rent of unit 7 is 690 a month."),
        # Something else is asked.
        ("The fee of member 9 is 740 a year.", "The fee of member 9 is 815 a year."),
        # One of them gives no value.
        ("The rent of unit 9 is 740 a month.", "The rent of unit 9 is paid each month."),
        # Titles state nothing.
        ("Rent of unit 9, 4 May 2021", "Rent of unit 9, 2 June 2023"),
    ],
)
def test_what_is_no_disagreement(one, other):
    """Red: a false alarm."""
    assert disagreement(RENT, passage("a", one), passage("b", other)) is None


@pytest.mark.parametrize("year", ["2019", "2022"])
def test_a_year_in_the_question_tells_reports_apart(year):
    """Red: two years' figures are said to disagree."""
    texts = [f"In {y} we caught {n} eels in the Wend." for y, n in (("2019", 312), ("2022", 321))]
    one, other = (passage(name, text) for name, text in zip("ab", texts, strict=True))
    assert disagreement(f"How many eels were caught in {year}?", one, other) is None
    assert disagreement("How many eels were caught?", one, other) == ("312 eels", "321 eels")


@pytest.mark.parametrize("pair", PAIRS, ids=[pair["question"] for pair in PAIRS])
def test_the_later_of_a_pair_comes_first(pair):
    """Red: the kept pairs are not told, or in the wrong order; whichever scores better."""
    pieces = [last_piece(*item) for item in pair["documents"].items()]
    for ordered in (pieces, pieces[::-1]):
        found = conflicts.find(pair["question"], ordered)
        assert found is not None and found.known_by
        assert found.sides[0].piece.passage.document.path == pair["file"]
        assert pair["gold"][0].split()[-1] in found.sides[0].value
        evidence = Evidence(tuple(ordered), tuple(ordered), 1.0)
        moved = later_first(evidence, found)
        assert moved.pieces[0].passage.document.path == pair["file"]
        assert moved.passages[0].passage.document.path == pair["file"]
        assert sorted(map(id, moved.pieces)) == sorted(map(id, evidence.pieces))


def test_a_piece_that_scores_badly_disagrees_with_nothing():
    """Red: what hardly fits the question is held against what does."""
    old, new = (passage(n, f"The rent of unit 9 is {r} a month.") for n, r in (("a", 1), ("b", 2)))
    near, far = ([Ranked(old, 0.0), Ranked(new, -gap * NEAR)] for gap in (0.9, 1.1))
    assert conflicts.find(RENT, near) is not None
    assert conflicts.find(RENT, far) is None
    assert conflicts.find(RENT, []) is None


def test_documents_without_any_sign_of_age_keep_their_order():
    """Red: one of two documents is called later by chance."""
    sides = [passage(n, f"The rent of unit 9 is {r} a month.") for n, r in (("a", 1), ("b", 2))]
    found = conflicts.find(RENT, [Ranked(one, 0.0) for one in sides])
    assert found is not None and found.known_by == ""
    assert [side.piece.passage for side in found.sides] == sides


@pytest.mark.parametrize(
    ("earlier", "later", "how"),
    [
        (("a", "Of 4 May 2021."), ("b", "Of 2 June 2021."), "date"),
        # Of a head that names two dates the first is its own.
        (("a", "Notice of 4 May 2021."), ("b", "Of 2 June 2023, for that of 1 May 2020."), "date"),
        (("minutes-2022-02-08.md", "x"), ("minutes-2023-09-12.md", "x"), "date"),
        (
            ("a", "Terms, May 2021"),
            ("b", "Terms, May 2021. This replaces all others."),
            "what it says",
        ),
        (("leaflet", "Version 1.9"), ("leaflet", "Version 1.10"), "version"),
        # A date is stronger than a word: the older one was amended in its time, too.
        (("a", "Amended 4 May 2021."), ("b", "Of 2 June 2023."), "date"),
    ],
)
def test_which_is_later_and_how_that_is_known(earlier, later, how):
    """Red: the wrong document is called the later one."""
    ages = [age(passage(*one)) for one in (earlier, later)]
    assert compare(*ages) == (-1, how)
    assert compare(*ages[::-1]) == (1, how)


def test_file_times_come_last(tmp_path):
    """Red: a copy made today of an old file is called later than a newer document."""
    import os

    names = [tmp_path / "old.txt", tmp_path / "new.txt"]
    for number, name in enumerate(names):
        name.write_text("x")
        os.utime(name, (1000 + number, 1000 + number))
    undated = [age(passage(str(name), "Some text.")) for name in names]
    assert compare(*undated) == (-1, "file time")
    dated = [
        age(passage(str(n), f"Of 4 May {y}.")) for n, y in zip(names, (2023, 2021), strict=True)
    ]
    assert compare(*dated) == (1, "date")
