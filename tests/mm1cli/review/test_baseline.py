"""Red here means that a team sees findings again that it has settled, or misses new ones."""

import json
from pathlib import Path

import pytest
from corpora import document
from hypothesis import given
from hypothesis import strategies as st
from reviewing import raw

from mm1cli.errors import UsageError
from mm1cli.review import baseline
from mm1cli.review.checks import checked
from mm1cli.review.locate import FileText

CODE = ["def one():", "    return total", "", "def two():", "    return total"]


def finding(lines: list[str], line: int, **changes):
    return checked(
        raw(lines[line - 1], line, **changes), "a.py", FileText(document("\n".join(lines))), None
    )


@given(st.lists(st.sampled_from(["", "# note", "x = 1"]), max_size=5), st.integers(0, 3))
def test_lines_that_moved_are_known_again(above: list[str], indent: int):
    """Red: an edit further up brings every settled finding back."""
    moved = [*above, *(" " * indent + line for line in CODE)]
    for line in (1, 2, 5):
        before, after = finding(CODE, line), finding(moved, line + len(above))
        assert before.fingerprint == after.fingerprint and after.first == line + len(above)


def test_other_code_files_and_categories_are_not_known():
    """Red: a new finding is hidden by an old one."""
    known = finding(CODE, 2)
    others = [
        finding(CODE, 5),
        finding(CODE, 1),
        finding(CODE, 2, category="security"),
        finding([*CODE[:1], "    return total + 1"], 2),
        checked(raw(CODE[1], 2), "b.py", FileText(document("\n".join(CODE))), None),
    ]
    entries = baseline.updated([], [known], frozenset())
    new, hidden = baseline.split([known, *others], entries)
    assert hidden == [known] and new == others


def test_the_file_is_sorted_whole_and_keeps_what_was_not_reviewed(tmp_path):
    """Red: a diff of the baseline says nothing, or a run on one folder forgets the others."""
    path = tmp_path / "baseline.json"
    one, two = finding(CODE, 1), finding(CODE, 5)
    baseline.save(path, baseline.updated([], [two, one], frozenset()))
    told = json.loads(path.read_text())
    assert [entry["code"] for entry in told["findings"]] == [CODE[0], CODE[4].strip()]
    assert not any(isinstance(value, int) for entry in told["findings"] for value in entry.values())
    again = baseline.updated(baseline.load(path), [one], frozenset({"b.py"}))
    assert len(again) == 2
    assert baseline.updated(baseline.load(path), [one], frozenset({"a.py"})) == [
        entry for entry in again if entry["code"] == CODE[0]
    ]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"version": 9, "findings": []}', "[" * 10_000, '{"version": 1}']
)
def test_a_file_that_is_no_baseline_is_refused_in_one_line(tmp_path, content: str):
    """Red: a damaged baseline hides everything, nothing, or ends in a traceback."""
    path = tmp_path / "b.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"b\.json"):
        baseline.load(path)
    with pytest.raises(UsageError, match="update-baseline"):
        baseline.load(Path(tmp_path / "none.json"))
