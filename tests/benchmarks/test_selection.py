"""Red here means the grid of long contexts asks for what is not there, or judges it wrongly."""

import re

import pytest
from tiny import llama_config, write_checkpoint

from benchmarks.quality.work import Work
from benchmarks.selection import measure
from benchmarks.selection.haystack import Library
from benchmarks.selection.measure import Reading, is_right
from benchmarks.selection.questions import Hidden, Kind, hidden
from benchmarks.selection.report import Length, Outcome, as_markdown, gates
from engine.api import Selection
from engine.engine import Engine
from mm1cli.retrieval.terms import query_terms, without_stop_words
from tests.benchmarks.conftest import WORDS

PLAIN = [f"{' '.join(WORDS)} {number}." for number in range(300)]
FACT = Hidden("fact", Kind.NATURAL, ("the owl is  green",), (), "Which colour?", ("green",))


def test_numbers_are_distinct_and_paraphrases_share_the_subject_alone():
    everything = hidden()
    numbers = [one.answers for one in everything if one.kind is not Kind.NATURAL]
    flat = [number for answers in numbers for number in answers]
    assert len(set(flat)) == len(flat) == 30 + 4 + 16 + 10 + 10
    for one in everything:
        if one.kind is Kind.PARAPHRASED:
            said, asked = (
                set(without_stop_words(query_terms(text))) for text in (one.texts[0], one.question)
            )
            shared = said & asked
            assert all(word.capitalize() in one.texts[0] for word in shared), shared


def test_everything_stands_where_the_haystack_says(tokenizer):
    texts = ["\n\n".join([*PLAIN[:200], "It is said the owl\nis green.", *PLAIN[200:]])]
    asked = [FACT if one.kind is Kind.NATURAL else one for one in hidden()]
    asked = list(dict.fromkeys(asked))
    # The tokenizer of these tests gives a token for nearly every letter.
    found = Library(tokenizer, texts, asked).haystack(14_000)
    assert len(found.token_ids) <= 13_000
    assert found.places.keys() == {one.name for one in asked}
    for one in asked:
        for text, place, *depth in zip(one.texts, found.places[one.name], strict=False):
            wanted = re.sub(r"\s+", r"\\s+", re.escape(text).replace(r"\ ", " "))
            assert re.match(wanted, found.text[place.char :])
            there = tokenizer.decode(found.token_ids[place.token :][: 3 * len(text)]).lstrip()
            assert re.match(wanted, there)
            assert re.search(wanted, place.passage) and len(place.passage) <= 700, depth
    for one in asked:
        for depth, place in zip(one.depths, found.places[one.name], strict=False):
            assert place.char / len(found.text) == pytest.approx(depth, abs=0.12)
    kept = re.findall(r"seven green owls (\d+)\.", found.text)
    assert kept == sorted(kept, key=int)  # the text's own order
    assert abs(int(kept[0]) - 200) > abs(int(kept[-1]) - 200) / 2  # around the fact


def test_short_texts_are_refused(tokenizer):
    with pytest.raises(ValueError, match="--text"):
        Library(tokenizer, ["\n\n".join(PLAIN)], hidden()).haystack(500_000)


@pytest.mark.parametrize(
    ("text", "wanted", "right"),
    [
        ("The number is 1,234,567.", ("1234567",), True),
        ("12345678", ("1234567",), False),
        ("7654321 or 1234567", ("1234567",), False),
        ("2222222 and 1111111", ("1111111", "2222222"), True),
        ("1111111 and 1111111", ("1111111", "2222222"), False),
        ("", ("1234567",), False),
    ],
)
def test_only_the_numbers_asked_for_are_right(text, wanted, right):
    assert is_right(text, Hidden("", Kind.TWO, (), (), "", wanted)) is right


def test_words_are_right_as_words():
    assert is_right("It was GREEN, they say", FACT)
    assert not is_right("evergreens", FACT)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = write_checkpoint(tmp_path_factory.mktemp("selection"), llama_config())
    selection = Selection(1, 0, 20, (0, 1), 8, 2, 16, 16, 4)
    return Engine(folder, chunk_tokens=256, selection=selection)


def test_a_run_that_was_stopped_goes_on(engine, tmp_path, monkeypatch):
    """What is known is not asked again; what was read is not read again."""
    few = [FACT, *hidden(1)[9:11]]
    texts = ["\n\n".join([*PLAIN[:60], "It is said the owl is green."])]
    haystack = Library(engine.tokenizer, texts, few).haystack(3_000)
    monkeypatch.setattr(measure, "_MOST_ANSWER_TOKENS", 2)
    results, saved = tmp_path / "results.jsonl", tmp_path / "saved"

    def run(asked):
        reading = Reading(engine, haystack, Work(results), saved)
        facts = reading.facts()
        return facts, [Outcome(one, reading.ask(one), reading.alone(one)) for one in asked]

    facts, _ = run(few[:2])
    assert facts["tokens"] == len(haystack.token_ids) and facts["tokens_per_s"] > 0
    _, found = run(few)
    monkeypatch.setattr(engine, "build_context", None)  # nothing is left to be read
    assert run(few) == (facts, found)
    table = as_markdown([Length(3_000, facts, found)])
    assert "| natural facts | 1 |" in table and "natural facts at" in table


@pytest.mark.parametrize(("num_right", "passed"), [(19, "passed"), (18, "FAILED")])
def test_the_gate_of_needles_is_95_of_100(num_right, passed):
    needle = Hidden("", Kind.NEEDLE, (), (), "", ())
    outcomes = []
    for number in range(20):
        right = number < num_right
        asked = {"found": True, "right": right, "again": right, "bm25": [True, True]}
        outcomes.append(Outcome(needle, asked, {"right": True}))
    length = Length(128_000, {"tokens": 127_000}, outcomes)
    assert [line.rpartition(" ")[2] for line in gates([length])] == [passed] * 2
