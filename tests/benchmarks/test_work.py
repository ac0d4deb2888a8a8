"""Red here means a stopped run measures again, or keeps what it did not measure."""

import time

import pytest

from benchmarks.quality.work import Work


def test_results_outlive_the_run_and_a_line_cut_by_a_kill(tmp_path):
    path = tmp_path / "kept" / "results.jsonl"
    work = Work(path)
    work.stage("s", 2)
    assert work.do({"n": 1}, lambda: {"x": 0.1}) == {"x": 0.1}
    assert work.do({"n": 2}, lambda: {"x": 0.2}) == {"x": 0.2}
    path.write_bytes(path.read_bytes()[:-3])
    again = Work(path)
    assert again.do({"n": 1}, lambda: pytest.fail("known")) == {"x": 0.1}
    assert again.known({"n": 2}) is None
    assert again.do({"n": 2}, lambda: {"x": 0.3}) == {"x": 0.3}
    assert Work(path).known({"n": 2}) == {"x": 0.3}


def test_the_order_of_a_key_does_not_matter(tmp_path):
    work = Work(tmp_path / "r.jsonl")
    work.do({"a": 1, "b": 2}, lambda: {"x": 1})
    assert work.known({"b": 2, "a": 1}) == {"x": 1}
    assert work.known({"b": 2, "a": 2}) is None


def test_after_the_deadline_nothing_new_begins_and_that_is_counted(tmp_path):
    path = tmp_path / "r.jsonl"
    Work(path).do({"n": 1}, lambda: {"x": 1})
    late = Work(path, deadline=time.monotonic())
    late.stage("s", 3)
    assert late.do({"n": 1}, lambda: pytest.fail("known")) == {"x": 1}
    assert late.do({"n": 2}, lambda: pytest.fail("late")) is None
    assert late.do({"n": 3}, lambda: pytest.fail("late")) is None
    assert late.num_left_out == 2
    late.stage("next", 1)
    assert late.num_left_out == 0


def test_items_are_told_and_tokens_only_of_long_texts():
    told = []

    class Told:
        def update(self, *facts):
            told.append(facts)

        def stop(self):
            told.append("stop")

    work = Work(progress=Told())
    work.stage("s", 2)
    work.do({"n": 1}, lambda: work.reading(10, 100) or {})
    assert told == [("s", 0, 2, "items"), ("s", 1, 2, "items")]
    work.do({"n": 2}, lambda: work.reading(1024, 10**6) or {})
    assert ("s, reading", 1024, 10**6, "tokens") in told
    assert told[-1] == ("s", 2, 2, "items")
    work.close()
    assert told[-1] == "stop"
