"""Red here means that a finding is shown on lines that do not say what it quotes."""

import subprocess

from corpora import document
from hypothesis import given
from hypothesis import strategies as st
from reviewing import raw

from mm1cli.review.checks import checked
from mm1cli.review.finding import Finding, Rejection
from mm1cli.review.locate import FileText

LINES = st.sampled_from(
    ["x = 1", "  return x  ", "\t}", "", "if a:", "    ", "naïve = '港'", "a\u2028b\x0c", "12 |x"]
)
FILES = st.lists(LINES, min_size=1, max_size=12).map("\n".join)


def bare(text: str) -> str:
    return "\n".join(line.rstrip(" \t\r\f\v") for line in text.split("\n")).strip()


@given(FILES, st.data())
def test_any_slice_is_found_where_it_is_said_to_be(text: str, data):
    """Red: a true quote is dropped, or put on other lines."""
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    quote = text[start:end]
    first = text.count("\n", 0, start) + 1
    found = FileText(document(text)).find(quote, first, text.count("\n", 0, end) + 1)
    if not bare(quote):
        assert found is Rejection.NOT_THERE
        return
    assert not isinstance(found, Rejection)
    assert bare(text[found.start : found.end]) == bare(quote)
    lines = text.split("\n")[found.region.first - 1 : found.region.last]
    assert bare(quote) in bare("\n".join(lines))
    assert text[found.start : found.end] in "\n".join(lines)
    first_line, last_line = lines[0], lines[-1]
    assert first_line[found.region.column - 1] == text[found.start]
    assert last_line[found.region.end_column - 2] == text[found.end - 1]


@given(FILES, st.text(max_size=20), st.integers(1, 20), st.integers(1, 20))
def test_what_is_found_is_verbatim_in_the_file(text: str, quote: str, first: int, last: int):
    """Red: something the file does not say is shown as a quote from it."""
    found = FileText(document(text)).find(quote, first, last)
    if isinstance(found, Rejection):
        return
    here = text[found.start : found.end]
    assert here and here in text
    assert bare(here) in {bare(quote), bare(quote.split("|", 1)[-1])}


def test_a_quote_with_wrong_lines_moves_only_where_it_can_be_meant():
    """Red: findings point at one of several equal lines by chance."""
    text = FileText(document("def one():\n    return total\n\ndef two():\n    return total\n"))
    assert text.find("    return total", 1, 2).region.first == 2
    assert text.find("    return total", 5, 5).region.first == 5
    assert text.find("    return total", 90, 99) is Rejection.AMBIGUOUS
    assert text.find("def two():", 90, 99).region.first == 4
    assert text.find("return  total", 2, 2) is Rejection.NOT_THERE
    assert text.find("    5 |    return total", 5, 5).region.first == 5
    assert text.find("two", 90, 99) is Rejection.AMBIGUOUS, "too little to know it again"


def test_a_line_of_blanks_takes_no_longer_than_its_length():
    """Red: one hostile line holds a review up for minutes."""
    blanks = " " * 200_000
    text = FileText(document(f"x = 1{blanks}y{blanks}\n"))
    assert text.find(f"x = 1{blanks}y", 1, 1).end == 200_006


@given(FILES.filter(lambda text: text.strip() and "\x0c" not in text), st.data())
def test_a_patch_does_to_the_file_what_the_fix_says(tmp_path_factory, text: str, data):
    """Red: a suggested patch does not apply, or changes something else."""
    text = text.replace("\u2028", "-")
    lines = [number for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    line = data.draw(st.sampled_from(lines))
    quote = text.split("\n")[line - 1].strip()
    fix = data.draw(st.sampled_from(["y = 2", "", "y = 2\nz = 3", quote]))
    name = "a file.py"
    found = checked(raw(quote, line, fix=fix), name, FileText(document(text)), None)
    assert isinstance(found, Finding)
    if fix == quote:
        assert found.patch is None and found.fix is None
        return
    folder = tmp_path_factory.mktemp("patched")
    (folder / name).write_text(text, newline="")
    subprocess.run(
        ["git", "apply", "--whitespace=nowarn", "-"],
        input=found.patch.encode(),
        cwd=folder,
        check=True,
    )
    start = text.index(found.quote, sum(len(x) + 1 for x in text.split("\n")[: line - 1]))
    assert (folder / name).read_bytes().decode() == text[:start] + fix + text[start + len(quote) :]
