"""Red here means a RULER task is not what its definition says, or is scored otherwise."""

import re
from collections import Counter

import pytest

from benchmarks.quality import ruler, ruler_tasks
from benchmarks.quality.ruler import make, sample_frame, sources
from benchmarks.quality.ruler_tasks import TASKS, Task, fit
from benchmarks.quality.work import Work

BY_NAME = {task.name: task for task in TASKS}
SIZE, SEEDS = 30, range(4)


@pytest.fixture(scope="module")
def found(shared):
    return sources(ruler.COMMAND.parser().parse_args(["--shared", str(shared)]))


@pytest.mark.parametrize("name", ["niah_single", "niah_multikey"])
def test_one_value_is_asked_for_and_the_others_distract(found, name):
    for seed in SEEDS:
        sample = BY_NAME[name].build(found, seed, SIZE)
        numbers = re.findall(r"\b\d{7}\b", sample.text)
        assert len(numbers) == len(set(numbers)) == {"niah_single": 1, "niah_multikey": 4}[name]
        assert numbers.count(sample.references[0]) == 1
        assert len(sample.references) == 1


@pytest.mark.parametrize("name", ["niah_multivalue", "niah_multiquery"])
def test_all_four_values_are_references(found, name):
    for seed in SEEDS:
        sample = BY_NAME[name].build(found, seed, SIZE)
        numbers = re.findall(r"\b\d{7}\b", sample.text)
        assert sorted(numbers) == sorted(sample.references)
        keys = {
            re.search(r"filed under (.+) is", line)[1]
            for line in sample.text.splitlines()
            if re.search(r"\d{7}", line)
        }
        assert len(keys) == (1 if name == "niah_multivalue" else 4)
        assert all(key in sample.question for key in keys)


def test_the_chain_leads_from_every_variable_to_the_value(found):
    for seed in SEEDS:
        sample = BY_NAME["variable_tracking"].build(found, seed, SIZE)
        assigned = dict(re.findall(r"VAR (\w+) = (?:VAR )?(\w+)", sample.text))
        assert len(assigned) == len(sample.references) == ruler_tasks.NUM_HOPS + 1
        for name in sample.references:
            hops = 0
            while name in assigned:
                name, hops = assigned[name], hops + 1
            assert name in sample.question
            assert hops <= ruler_tasks.NUM_HOPS + 1


def test_common_words_stand_ten_times_as_often(found):
    sample = BY_NAME["common_words"].build(found, 1, SIZE)
    counts = Counter(re.findall(r"\d+\. (\w+)", sample.text))
    assert {counts[word] for word in sample.references} == {30}
    assert {n for word, n in counts.items() if word not in sample.references} == {3}
    assert len(counts) == 10 + SIZE


def test_frequent_words_are_the_next_after_the_dots(found):
    sample = BY_NAME["frequent_words"].build(found, 1, 500)
    ranked = Counter(sample.text.split()).most_common(5)
    assert ranked[0][0] == "..."
    assert {word for word, _ in ranked[1:4]} == set(sample.references)
    # Zeta with exponent 2: the second rank has a quarter of the first.
    assert ranked[1][1] == pytest.approx(ranked[0][1] / 4, abs=1)
    assert ranked[3][1] > ranked[4][1]


def test_the_answer_is_in_one_of_the_numbered_documents(found):
    sample = BY_NAME["question_answering"].build(found, 0, 5)
    assert len(re.findall(r"^Document \d+:$", sample.text, re.MULTILINE)) == 6
    assert sample.references[0] in sample.text


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_sample_fills_its_length_and_depends_on_its_seed_alone(task, found, tokenizer):
    length = 24_000 if task.name == "common_words" else 4000
    sample = make(task, found, tokenizer, length, 3)
    assert (
        sample == make(task, found, tokenizer, length, 3) != make(task, found, tokenizer, length, 4)
    )

    def tokens(one):
        return (
            len(sample_frame(tokenizer, one)) + len(tokenizer.encode(one.text)) + task.answer_tokens
        )

    assert tokens(sample) <= length
    if task.name not in ("common_words", "frequent_words"):
        assert tokens(sample) > 0.75 * length


def test_fit_takes_the_largest_size_that_fits_and_says_when_none_does():
    task = Task("t", lambda sources, seed, size: size, 1)
    assert [fit(task, None, lambda size: size, target, 0) for target in range(40)] == list(
        range(40)
    )
    assert fit(task, None, lambda size: size + 5, 4, 0) is None


def test_scores_are_shares_of_references_or_any_of_them():
    every, some = BY_NAME["niah_multivalue"], BY_NAME["question_answering"]
    assert every.score("1 and TWO", ("1", "two", "3", "4")) == 0.5
    assert every.score("", ("1", "2")) == 0
    assert some.score("it is Two", ("one", "two")) == 1
    assert some.score("it is three", ("one", "two")) == 0


def test_who_copies_is_right_and_who_guesses_is_not(copier, constant, shared):
    words = ["--shared", str(shared), "--lengths", "2500", "--limit", "2"]
    words += ["--tasks", "niah_single", "niah_multikey"]
    table = ruler.build([copier, constant], ruler.COMMAND.parser().parse_args(words), Work())
    tasks = {row.condition["task"]: row.cells for row in table.rows}
    assert set(tasks) == {"niah_single", "niah_multikey", "average"}
    assert all(c["copier"].value == 1 and c["constant"].value == 0 for c in tasks.values())


def test_what_does_not_fit_is_said(constant, shared):
    words = [
        "--shared",
        str(shared),
        "--lengths",
        "2500",
        "--limit",
        "1",
        "--tasks",
        "common_words",
    ]
    table = ruler.build([constant], ruler.COMMAND.parser().parse_args(words), Work())
    assert table.rows == []
    assert "common_words does not fit 2,500 tokens: left out." in table.notes
