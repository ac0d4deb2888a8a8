"""Red here means needles are not where the table says, or an answer is judged wrongly."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.quality import multikey, needle
from benchmarks.quality.haystack import Haystack, cut
from benchmarks.quality.multikey import strew
from benchmarks.quality.needle import digits, is_exact, trials
from benchmarks.quality.templates import TEMPLATES, needles
from benchmarks.quality.work import Work

LENGTHS = (900, 1500)
DEPTHS = (0.0, 0.3, 1.0)


@pytest.fixture(scope="module")
def hay(shared, tokenizer):
    return Haystack(shared / "corpora").token_ids(tokenizer, max(LENGTHS))


def test_the_needle_stands_once_at_its_depth_and_the_length_is_kept(hay, tokenizer):
    for trial in trials(tokenizer, hay, LENGTHS, DEPTHS, range(len(TEMPLATES))):
        before, after = hay[: trial.at], hay[trial.at : trial.num_hay]
        text = tokenizer.decode([*before, *trial.needle_ids, *after])
        assert text.count(trial.needle.sentence) == text.count(trial.needle.value) == 1
        place = text.index(trial.needle.sentence) / (len(text) - len(trial.needle.sentence))
        assert place == pytest.approx(trial.depth, abs=0.07)
        num_tokens = len(trial.frame) + len(trial.needle_ids) + trial.num_hay
        assert num_tokens == trial.length


def test_a_needle_stands_between_sentences(hay, tokenizer):
    for depth in (0.2, 0.5, 0.9):
        at = cut(tokenizer, hay, depth)
        assert 0 <= depth * len(hay) - at <= len(hay) / 20 + 1
        assert tokenizer.decode(hay[:at]).rstrip().endswith(".")


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_keys_and_values_of_a_text_are_distinct(seed, count):
    found = needles(seed, count)
    assert len({n.key for n in found}) == len({n.value for n in found}) == count
    assert all(re.fullmatch(r"[1-9]\d{6}", n.value) for n in found)
    assert all(n.value not in n.question + n.answer_begins for n in found)
    assert all(n.key in n.question and n.key in n.sentence for n in found)


@given(st.integers(10**6, 10**7 - 1), st.integers(10**6, 10**7 - 1))
def test_only_the_whole_number_is_exact(wanted, other):
    wanted, other = str(wanted), str(other)
    assert is_exact(f" {wanted}. It", wanted)
    assert not is_exact(f" {wanted}1", wanted)
    assert not is_exact(f" {wanted[:-1]}", wanted)
    assert not is_exact(f"the {wanted}", wanted)
    assert is_exact(f"{other}", wanted) == (wanted == other)
    assert digits(f" {other},", wanted) == (
        sum(a == b for a, b in zip(wanted, other, strict=True)) / 7
    )
    assert digits("none", wanted) == 0
    assert digits(wanted[:3], wanted) == pytest.approx(3 / 7)


def options(command, shared, *words):
    return command.parser().parse_args(["--shared", str(shared), *words])


@pytest.mark.parametrize("module", [needle, multikey])
def test_who_copies_is_right_and_who_guesses_is_not(module, copier, constant, shared):
    words = ["--lengths", "1200", "1800", "--seeds", "2"]
    table = module.build([copier, constant], options(module.COMMAND, shared, *words), Work())
    cells = [row.cells for row in table.rows if row.measure == "exact"]
    assert cells
    assert all(c["copier"].value == 1 and c["constant"].value == 0 for c in cells)
    assert all(c["bm25 alone"].value == 1 for c in cells)  # the keys are rare words
    found = [row.cells for row in table.rows if row.measure == "digits"]
    assert all(c["copier"].value == 1 and c["constant"].value == 0 for c in found)


def test_text_before_the_needles_is_read_once(copier, shared, hay, tokenizer):
    depths, seeds = (0.5, 1.0), range(3)
    planned = trials(tokenizer, hay, LENGTHS, depths, seeds)
    needle.measure(copier, hay, planned, Work())
    behind = sum(t.num_hay - t.at + len(t.needle_ids) + len(t.frame.after) for t in planned)
    trunk = len(planned[0].frame.before) + max(t.at for t in planned)
    assert copier.engine.num_read == trunk + behind


def test_a_resumed_grid_is_the_same_grid(copier, shared, tmp_path):
    words = ["--lengths", "1200", "--depths", "0", "0.6", "--seeds", "2"]
    given = options(needle.COMMAND, shared, *words)
    whole = needle.build([copier], given, Work(tmp_path / "r.jsonl"))
    kept = (tmp_path / "r.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "r.jsonl").write_text("".join(kept[:3]))
    assert needle.build([copier], given, Work(tmp_path / "r.jsonl")).rows == whole.rows


def test_lengths_beyond_the_model_are_noted(copier, shared):
    words = ["--lengths", "1200", "5000", "--depths", "1", "--seeds", "1"]
    table = needle.build([copier], options(needle.COMMAND, shared, *words), Work())
    assert any("5,000 tokens is beyond the 4,096 positions copier" in n for n in table.notes)
    words.append("--skip-beyond")
    table = needle.build([copier], options(needle.COMMAND, shared, *words), Work())
    assert {row.condition["tokens"] for row in table.rows} == {"1,200"}
    assert any("left out" in note for note in table.notes)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000), st.integers(1, 5))
def test_every_key_stands_once_and_no_question_is_too_long(tokenizer, hay, seed, keys):
    strewn = strew(tokenizer, hay, 1500, keys, seed)
    text = tokenizer.decode(strewn.token_ids)
    assert all(text.count(n.sentence) == 1 for n in strewn.needles)
    assert [text.index(n.sentence) for n in strewn.needles] == sorted(
        text.index(n.sentence) for n in strewn.needles
    )
    for one, end in zip(strewn.needles, strewn.ends, strict=True):
        assert tokenizer.decode(strewn.token_ids[:end]).endswith(f"{one.sentence}\n")
    longest = max(len(needle.frame(tokenizer, n.question, n.answer_begins)) for n in strewn.needles)
    assert len(strewn.token_ids) + longest == 1500


def test_no_room_is_said(tokenizer, hay):
    with pytest.raises(ValueError, match="no room"):
        trials(tokenizer, hay, [100], [0.5], [0])
    with pytest.raises(ValueError, match="no room for 5 needles"):
        strew(tokenizer, hay, 300, 5, random.randrange(5))
