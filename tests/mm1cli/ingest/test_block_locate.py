from hypothesis import given
from hypothesis import strategies as st

from mm1cli.ingest.corpus import Block
from mm1cli.ingest.readers.text import normalise_newlines

LINES = st.lists(st.text(st.characters(exclude_characters="\n"), max_size=8), min_size=1)


@given(LINES, st.integers(1, 1000), st.data())
def test_a_located_slice_is_inside_the_lines_it_is_said_to_be_in(lines, first, data):
    """Red: citations name the wrong lines."""
    text = "\n".join(lines) + "\n"
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    locator = Block(text, first=first).locate(start, end)
    named = lines[locator.first - first : locator.last - first + 1]
    assert text[start:end].strip("\n") in "\n".join(named)
    assert text[start:end].strip("\n").count("\n") <= locator.last - locator.first


@given(st.lists(st.tuples(st.text("ab", max_size=3), st.sampled_from(["\n", "\r\n", "\r"]))))
def test_every_kind_of_line_end_counts_as_one_line(pairs):
    """Red: line numbers of Windows or old Mac files are off."""
    # The bar keeps \r and a following \n, two line ends, from becoming one.
    text = "".join(f"{line}|{end}" for line, end in pairs)
    normalised = normalise_newlines(text)
    assert normalised == "".join(f"{line}|\n" for line, _ in pairs)
