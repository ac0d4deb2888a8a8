"""Red here means the report shows another number than was measured, or shows it elsewhere."""

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.quality.report import Report, Section
from benchmarks.quality.stats import wilson
from benchmarks.quality.table import NOTHING, Table, markdown_grid, read_markdown_grid

CELL = st.text("aé|\\-[%.", min_size=1)
GRIDS = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1, max_size=5)
)


@given(GRIDS)
def test_markdown_reads_back_as_it_was_written(lines):
    assert read_markdown_grid(markdown_grid(lines)) == lines


def table():
    made = Table("t", "A title")
    made.put({"tokens": "1,024"}, "exact", "one", wilson(3, 4))
    made.put({"tokens": "1,024"}, "exact", "other", "none written")
    made.put({"tokens": "2,048", "depth": "50%"}, "exact", "one", wilson(0, 4))
    made.note("why")
    made.note("why")
    return made


def test_models_stand_side_by_side_and_what_is_missing_is_a_dash():
    grid = table().grid()
    assert grid[0] == ["tokens", "depth", "measure", "one", "other"]
    assert grid[1] == ["1,024", NOTHING, "exact", "75% [30, 95] of 4", "none written"]
    assert grid[2][-1] == NOTHING
    assert len(grid) == 3


def test_the_report_holds_every_table_in_both_files(tmp_path):
    model = {"name": "one", "fingerprint": "abc", "trained_tokens": 8192}
    sections = [Section("cmd t", table())]
    report = Report([model], {"cpu": "x"}, "2026-01-02", "cmd", 1.0, sections, "A busy machine.")
    report.write(tmp_path)
    text = (tmp_path / "quality.md").read_text()
    read = json.loads((tmp_path / "quality.json").read_text())
    assert read["tables"][0]["rows"][0]["results"]["one"]["value"] == 0.75
    assert read["tables"][0]["notes"] == ["why"]
    assert read["models"] == [model]
    grids = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert read_markdown_grid(grids[0])[1] == ["one", "8,192", "abc"]
    assert read_markdown_grid(grids[1]) == table().grid()
    assert all(
        part in text
        for part in ("2026-01-02", "A busy machine.", "    cmd\n", "    cmd t\n", "- why")
    )
