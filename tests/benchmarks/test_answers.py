"""Red here means that answers are judged by gold that is not there, or by the wrong rule."""

import json
from types import SimpleNamespace

import pytest

from benchmarks.answers.__main__ import default_sets, judgements
from benchmarks.answers.report import Outcome, report, to_judge
from benchmarks.answers.sets import SETS, Item, holds, load
from benchmarks.quality.table import Table
from mm1cli.models.ability import Ability

ITEMS = {path.stem: load(path) for path in default_sets()}


@pytest.mark.parametrize(
    ("text", "wanted", "held"),
    [
        ("It costs 1,450 a month.", "1,450", True),
        ("It costs 11,450 a month.", "1,450", False),
        ("It costs 1,450.50.", "1,450", False),
        ("Two Wheelbarrows went.", "wheelbarrow", True),
        ("within  five\nhours", "five hours", True),
    ],
)
def test_gold_is_a_word_or_number_of_its_own(text, wanted, held):
    """Red: a wrong number counts as right because the right one stands inside it."""
    assert holds(text, (wanted,)) is held


def test_sets_are_what_they_say():
    """Red: gold stands in no document, or dev and held out are not halves."""
    everyday, superseding = ITEMS["everyday"], ITEMS["superseding"]
    kinds = [item.kind for item in everyday]
    counted = {kind: kinds.count(kind) for kind in set(kinds)}
    assert counted == {"answerable": 60, "near twin": 30, "elsewhere": 30}
    assert len(superseding) == 20 and len(ITEMS["papers"]) == 12
    assert all(sum(item.is_dev for item in items) * 2 == len(items) for items in ITEMS.values())
    assert len({item.text for item in everyday}) == 120
    for item in (*everyday, *superseding):
        documents = item.collection.corpus.documents
        texts = ["\n".join(block.text for block in one.blocks) for one in documents]
        pairs = [(one.path, text) for one, text in zip(documents, texts, strict=True)]
        assert any(item.is_gold(*pair) for pair in pairs) == item.is_answerable, item.text
        if item.superseded:
            assert any(holds(text, item.superseded) for text in texts)


@pytest.mark.parametrize(
    "line",
    [
        '{"question": "Why?"}',
        "[]",
        '{"question": "?", "gold": [], "file": null, "unanswerable": false, "collection": "x"}',
    ],
)
def test_a_line_that_is_no_question_is_named(tmp_path, line):
    """Red: a set of one's own is measured although a part of it was not understood."""
    path = tmp_path / "own.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ValueError, match=r"own\.jsonl, line 1"):
        load(path)


def outcome(item: Item, text: str, margin: float) -> Outcome:
    return Outcome(
        item,
        {
            "margin": margin,
            "pieces": [],
            "text": text,
            "is_found": text != "",
            "gains": [],
            "said": [],
            "num_quotes": 0,
            "unverified": [],
            "seconds": 1.0,
        },
    )


def test_warnings_are_counted_on_their_own_half():
    """Red: error rates of a threshold are those of the questions it was chosen on."""
    items = ITEMS["everyday"]
    outcomes = []
    for item in items:
        # On dev the margin tells all; held out, half of the answerable fall below.
        is_low = not item.is_answerable or (not item.is_dev and item.text[0] in "HhI")
        text = item.gold[0] if item.is_answerable else "Seven."
        outcomes.append(outcome(item, text, 0.0 if is_low else 2.0))
    low = [o for o in outcomes if o.item.is_answerable and o.margin < 1]
    assert low
    table = Table("t", "t")
    report(table, "everyday", "m", outcomes, Ability("m", "f", 1, 1, min_margin=1.0))
    cells = {row.measure: row.cells["m"] for row in table.rows}
    assert cells["warned although answerable, by margin, dev"].value == 0
    held_out = cells["warned although answerable, by margin, held out"]
    assert held_out.value == pytest.approx(len(low) / 30) and held_out.num == 30
    assert cells["found, by margin, not carried, held out"].value == 1
    assert cells["sentence right"].value == 1
    # No evidence is given: right ones are carried only by what is found by their own words.
    assert 0.5 < cells["marked sentences that are wrong"].value < 1
    assert cells["wrong sentences that are marked"].value == 1
    assert cells["wrong, without mark or warning"].value == 0
    assert 0 < cells["right, with mark or warning"].value < 1


def test_what_would_be_believed_is_counted(tmp_path):
    """Red: a wrong sentence that a quote carries, and nothing warns of, is not told."""
    told = "Meals cost 38 a day."
    line = {"question": "What do meals cost?", "gold": ["40"], "file": "a.txt"}
    line |= {"unanswerable": False, "documents": {"a.txt": told}}
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(line) + "\n")
    (item,) = load(path)
    ability = Ability("m", "f", 1, 1, min_margin=1.0)
    believed, other = outcome(item, told, 2.0), outcome(item, "Meals cost 39 a day.", 2.0)
    for one in (believed, other):
        one.result["pieces"] = [[0.0, 0, 0, 0, len(told)]]
        one.result["gains"] = [None]
    assert not believed.is_right and not believed.is_warned(ability)
    assert other.is_warned(ability)
    table = Table("t", "t")
    report(table, "own", "m", [believed, other], ability)
    cells = {row.measure: row.cells["m"] for row in table.rows}
    assert cells["wrong, without mark or warning"].value == 0.5


def test_what_a_string_cannot_judge_is_printed_and_may_be_judged(tmp_path):
    """Red: a right answer in other words counts as wrong for ever."""
    item = next(one for one in ITEMS["everyday"] if one.is_answerable)
    wrong = outcome(item, "Some other words.", 1.0)
    assert [line["question"] for line in to_judge([wrong])] == [item.text]
    path = tmp_path / "judged.jsonl"
    line = {"question": item.text, "answer": "Some other words.", "right": True}
    path.write_text(json.dumps(line) + "\n")
    judged = Outcome(item, wrong.result, judgements(path)[item.text, "Some other words."])
    assert judged.is_right and not wrong.is_right and to_judge([judged]) == []
    assert judgements(tmp_path / "none") == {}


def test_the_sets_are_those_of_the_folder():
    """Red: `make bench` measures nothing that is kept."""
    assert {path.parent for path in default_sets()} == {SETS}
    assert SimpleNamespace(**ITEMS).papers[0].collection.corpus.documents
