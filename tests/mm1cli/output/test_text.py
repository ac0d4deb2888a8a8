import io
import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm1cli.ingest.display_names import one_line
from mm1cli.output.text import (
    Channel,
    Style,
    cell_width,
    clock_time,
    duration,
    elide_middle,
    pad,
    safe,
    safe_line,
    wrap,
)

HOSTILE = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F)])) + (
    "\u2066\u2067\u2068\u2069"
)
any_text = st.text(st.characters(codec=None))


def is_harmless(char: str) -> bool:
    return char in "\n\t" or (unicodedata.category(char) != "Cc" and char not in HOSTILE)


@given(any_text | st.text(st.sampled_from(HOSTILE + "ab")))
def test_safe_text_holds_nothing_that_drives_a_terminal(text: str):
    assert all(map(is_harmless, safe(text)))
    assert safe(safe(text)) == safe(text)
    assert len(safe_line(text).splitlines()) <= 1


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_an_answer_in_json_still_parses_to_what_it_was(text: str):
    """Red: --schema prints what another program cannot read."""
    assert json.loads(safe(json.dumps(text, ensure_ascii=False))) == text


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs"])))
def test_harmless_text_is_left_alone(text: str):
    assert safe(text) == text


def test_what_is_escaped_stays_visible():
    assert safe("\x1b[31m\x9b\u202e\r") == "\\x1b[31m\\u009b\\u202e\\x0d"
    assert safe("a\n\tb") == "a\n\tb"
    assert safe_line("a\n\tb") == "a\\n\\tb"


@given(st.text(st.sampled_from("ab 港é\u0301\n\t-")), st.integers(2, 30))
def test_wrapping_keeps_every_character_and_the_width(text: str, width: int):
    lines = wrap(text, width)
    assert re.sub(r"\s", "", "".join(lines)) == re.sub(r"\s", "", text)
    assert all(cell_width(line) <= width for line in lines)
    assert len(lines) >= text.count("\n") + 1


def test_wrapping_breaks_between_words_and_keeps_a_fitting_line_as_it_is():
    assert wrap("one two three", 7) == ["one two", "three"]
    assert wrap("a   b", 7) == ["a   b"]
    assert wrap("    indented text", 14) == ["    indented", "text"]
    assert wrap("abcdefghij", 4) == ["abcd", "efgh", "ij"]


@given(st.text(st.sampled_from("ab/港.")), st.integers(1, 20))
def test_eliding_keeps_both_ends_and_the_width(text: str, width: int):
    shown = elide_middle(text, width)
    assert cell_width(shown) <= width
    if cell_width(text) <= width:
        assert shown == text
    else:
        head, tail = shown.split("…")
        assert text.startswith(head) and text.endswith(tail)


def test_widths_are_counted_in_cells():
    assert cell_width("港a") == 3
    assert cell_width("e\u0301") == 1
    assert pad("港", 4) == "港  "


def test_times_read_as_people_say_them():
    assert duration(9.14) == "9.1 s"
    assert duration(99.97) == "1 min 40 s"
    assert duration(3725) == "1 h 2 min"
    assert clock_time(42.4) == "0:42"
    assert clock_time(3723) == "1:02:03"


def stream(encoding: str) -> tuple[io.BytesIO, io.TextIOWrapper]:
    raw = io.BytesIO()
    return raw, io.TextIOWrapper(raw, encoding=encoding, newline="")


def test_what_an_encoding_lacks_is_spelled_out():
    raw, text = stream("ascii")
    channel = Channel(text)
    channel.write("é港\ud800")
    assert raw.getvalue() == rb"\xe9\u6e2f\ud800"
    assert channel.glyph("│", "|") == "|"


def test_a_lone_surrogate_does_not_stop_utf8():
    raw, text = stream("utf-8")
    Channel(text).write("港\udc80")
    assert raw.getvalue().decode() == "港\\udc80"
    assert Channel(text).glyph("│", "|") == "│"


def test_colour_is_put_on_only_where_it_is_welcome():
    for color, expected in [(True, "\x1b[1mx\\x1b\x1b[0m"), (False, "x\\x1b")]:
        out = io.StringIO()
        Channel(out, color=color).write("x\x1b", Style.BOLD)
        assert out.getvalue() == expected


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environ", "is_terminal", "color", "columns"),
    [
        ({"TERM": "xterm"}, True, True, 80),
        ({"TERM": "dumb"}, False, False, 80),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False, 80),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True, 80),
        ({"COLUMNS": "40"}, True, True, 40),
        ({"COLUMNS": "0"}, True, True, 80),
        ({"COLUMNS": "wide"}, True, True, 80),
    ],
)
def test_the_environment_is_honoured(environ, is_terminal, color, columns):
    channel = Channel.from_environment(Screen(), environ)
    assert (channel.is_terminal, channel.color, channel.columns) == (is_terminal, color, columns)


def test_a_pipe_is_no_terminal_whatever_the_environment():
    channel = Channel.from_environment(io.StringIO(), {"TERM": "xterm"})
    assert not channel.is_terminal and not channel.color


@pytest.mark.parametrize("code", [0x200B, 0x200E, 0x200F, 0x2060, 0x2068, 0xFEFF, 0x61C, 0xE0041])
def test_what_is_not_seen_is_shown(code):
    """Red: two files are shown by one name, or a terminal shows less than there is."""
    shown = f"a{json.dumps(chr(code))[1:-1]}b"
    assert safe(f"a{chr(code)}b") == safe_line(f"a{chr(code)}b") == shown
    assert json.loads(f'"{shown}"') == f"a{chr(code)}b"
    assert chr(code) not in one_line(f"a{chr(code)}b") != "ab"


def test_joiners_that_are_letters_of_a_language_stay():
    assert safe("می\u200cخواهم 👩\u200d💻") == "می\u200cخواهم 👩\u200d💻"
