"""Tables of columns: Parquet, Arrow, Feather."""

import datetime
import sys
from io import BytesIO

import pytest
from office import refusal, shown

from mm1cli.ingest import read_corpus
from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers import choose, columns
from mm1cli.ingest.readers.columns import read_columns

pyarrow = pytest.importorskip("pyarrow", reason="mm1[parquet] is not installed")


def saved(table, form):
    import pyarrow.parquet

    output = BytesIO()
    if form == "parquet":
        pyarrow.parquet.write_table(table, output)
    else:
        new = pyarrow.ipc.new_file if form == "file" else pyarrow.ipc.new_stream
        with new(output, table.schema) as writer:
            writer.write_table(table)
    return output.getvalue()


@pytest.mark.parametrize("form", ["parquet", "file", "stream"])
def test_rows_stand_below_the_names_of_their_columns(form, tmp_path):
    """Red: a table of data is refused, or read in another order than its rows."""
    table = pyarrow.table({
        "item": ["ink", None],
        "cost": pyarrow.array([0.1, 5], pyarrow.float32()),
        "day": [datetime.date(2024, 3, 5), None],
    })  # fmt: skip
    expected = [("A1:C1", "item\tcost\tday"), ("A2:C2", "ink\t0.1\t2024-03-05"), ("A3:C3", "\t5")]
    data = saved(table, form)
    assert shown(read_columns(data)) == expected
    if form == "parquet":
        assert choose("a.dat", data)[0].name == "columns"
        path = tmp_path / "a.parquet"
        path.write_bytes(data)
        corpus = read_corpus([str(path)])
        assert [one.blocks[0].text for one in corpus.documents] == [
            "item\tcost\tday\nink\t0.1\t2024-03-05\n\t5"
        ], corpus.omissions


def test_what_is_beyond_the_bound_is_named_and_values_in_values_are_json(monkeypatch):
    """Red: half of a table passes for all of it."""
    monkeypatch.setattr(columns, "_MAX_ROWS", 2)
    monkeypatch.setattr(columns, "_BATCH_ROWS", 2)
    table = pyarrow.table({"n": [{"a": [1]}, {"a": []}, {"a": None}], "b": [b"xy", b"", None]})
    reading = read_columns(saved(table, "parquet"))
    assert shown(reading)[1] == ("A2:B2", '{"a": [1]}\t(2 bytes)')
    assert reading.warnings == ("only the first 2 of 3 rows are read",)


def test_broken_locked_and_empty_tables_and_no_library(monkeypatch):
    """Red: a file breaks the reader; or nobody learns what to install."""
    data = saved(pyarrow.table({"a": [1]}), "parquet")
    assert refusal(read_columns, data[:-9]).reason is Reason.UNREADABLE
    assert refusal(read_columns, b"PARE" + data).reason is Reason.ENCRYPTED
    empty = saved(pyarrow.table({"a": pyarrow.array([], "int64")}), "parquet")
    assert shown(read_columns(empty)) == [("A1", "a")] and read_columns(empty).warnings
    assert refusal(read_columns, saved(pyarrow.table({}), "parquet")).reason is Reason.EMPTY
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'mm1[parquet]'" in refusal(read_columns, data).detail


def test_nanoseconds_cost_no_table():
    """Red: one time that Python's own cannot hold, and no row is read."""
    moment = 1_000_000_000_000_000_001
    table = pyarrow.table({
        "at": pyarrow.array([moment, None], pyarrow.timestamp("ns")),
        "in": pyarrow.array([moment, None], pyarrow.timestamp("ns", tz="Europe/Berlin")),
        "took": pyarrow.array([1_001, None], pyarrow.duration("ns")),
    })  # fmt: skip
    text = "2001-09-09 01:46:40.000000001"
    assert shown(read_columns(saved(table, "parquet")))[1][1] == f"{text}\t{text} UTC\t1001 ns"
