import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from office import refusal, shown, texts

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.delimited import read_delimited


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_separator_is_found(delimiter):
    """Red: a European CSV is one column of semicolons."""
    rows = [["name", "cost, in crowns"], ["bridge; span", "48"], ["ferry", "2"]]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    assert texts(read_delimited(text.getvalue().encode())) == ["\t".join(row) for row in rows]


def test_rows_count_as_in_a_spreadsheet():
    """Red: after a cell with two lines every citation is off by one."""
    reading = read_delimited(b'a,b\n"two\nlines",2\n\n,"x ""y"""\n')
    assert shown(reading) == [
        ("A1:B1", "a\tb"),
        ("A2:B2", "two lines\t2"),
        ("A4:B4", '\tx "y"'),
    ]


def test_excels_own_line_names_the_separator_and_is_no_text():
    """Red: "sep=;" is the first row of the table."""
    assert shown(read_delimited(b"sep=;\r\na,b;c\r\n")) == [("A2:B2", "a,b\tc")]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"x;1,5;2,5\ny;1,6;2,6\n", "x\t1,5\t2,5"),
        (b"1.234,50;2.345,60\n1.334,50;2.545,60\n", "1.234,50\t2.345,60"),
        (b"a|b\n1,5|2\n1,6|3\n", "a\tb"),
        (
            b"Account:;DE12\n\nDate;Text;Sum\n1.2.;Rent, May;-500,00\n2.2.;Pay;1,00\n",
            "Account:\tDE12",
        ),
        (b"12,5\n3,25\n-1.004,75\n", "12,5"),
        (b"cost\n12,5\n3,2\n", "cost"),
        (b"1,20\n2,35\n3,10\n", "1\t20"),
        (b"a,b\n1,2\n7,4\n", "a\tb"),
    ],
)
def test_commas_inside_of_numbers_separate_nothing(data, expected):
    """Red: 1,5 is two cells, and every value stands under the next column's name."""
    assert texts(read_delimited(data))[0] == expected


def test_blanks_before_quotes_and_commas_of_words_separate_nothing():
    """Red: a quoted comma parts a cell; a column of remarks loses its commas."""
    assert texts(read_delimited(b'a, "b"\n1, "x, y"\n')) == ["a\tb", "1\tx, y"]
    remarks = b"remark\nI like it, really\nNo, thanks, sir\n"
    assert texts(read_delimited(remarks))[1:] == ["I like it, really", "No, thanks, sir"]


def test_encodings_are_named_and_binary_data_is_refused():
    """Red: exports of old programs are refused, or read wrongly without a word."""
    reading = read_delimited("Größe;1\n".encode("cp1252"))
    assert texts(reading) == ["Größe\t1"] and len(reading.warnings) == 1
    assert read_delimited("é,1\n".encode("utf-16")).encoding == "utf-16"
    assert refusal(read_delimited, b"a,b\0").reason is Reason.BINARY
    assert refusal(read_delimited, b",,\n,,\n").reason is Reason.EMPTY


def test_a_quote_that_is_never_closed_loses_nothing():
    """Red: everything after a stray quote is dropped, or one cell of 50,000 rows."""
    data = b'a,b\n"p,q",1\n"open,2\n' + b"x,y\n" * 50_000
    found = texts(read_delimited(data))
    assert found[1:4] == ["p,q\t1", '"open\t2', "x\ty"] and len(found) > 50_000


def test_rows_behind_a_stray_quote_are_apart_and_its_line_is_named():
    """Red: rows 2 to 4 are one, and nobody learns of it."""
    reading = read_delimited(b'a,b\n1,"two\n3,4\n"5",6\n"7" x,8\n"9\n9",0\n')
    assert texts(reading) == ["a\tb", '1\t"two', "3\t4", "5\t6", "7 x\t8", "9 9\t0"]
    assert reading.warnings == ("line 2: a quote is never closed; rows are kept apart there",)
    many = read_delimited(b"a,b\n" + b'"x,1\n' * 30_000)
    assert texts(many)[1:3] == ['"x\t1'] * 2
    assert many.warnings[0].startswith("line 2, 3, 4 and 29997 more: ")


cells = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=5)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(cells, min_size=2, max_size=2), min_size=1, max_size=5))
def test_whatever_is_written_comes_out_in_its_row(rows):
    """Red: a cell is lost, or cited at another address."""
    text = io.StringIO()
    csv.writer(text).writerows([["h", "i"]] * 20 + rows)
    found = shown(read_delimited(text.getvalue().encode()))
    found = [(where, line) for where, line in found if "repeated" not in where]
    assert found[20:] == [(f"A{n}:B{n}", "\t".join(row)) for n, row in enumerate(rows, 21)]


def test_rows_after_the_hundredth_stand_under_their_header():
    """Red: a value of row 101 is read under the column to its left."""
    lines = ["Region,Product,Q1", *(f",p{at},{at}" for at in range(120))]
    blocks = read_delimited("\n".join(lines).encode()).blocks
    assert [block.text.split("\n")[0] for block in blocks] == [
        "Region\tProduct\tQ1",
        "Region\tProduct\tQ1",
        "\tp99\t99",
    ]
    assert {block.columns for block in blocks} == {("A", "C")}
