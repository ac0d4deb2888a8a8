import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from office import refusal, shown, texts

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.rtf import read_rtf

HEAD = (
    r"{\rtf1\ansi\ansicpg1252\uc1{\fonttbl{\f0 Arial;}{\f1\fcharset204 Arial Cyr;}"
    r"{\f2\fcharset128 Mincho;}}{\colortbl;\red0\green0\blue0;}"
    r"{\stylesheet{\s0 Normal;}{\s1\outlinelevel0 heading 1;}{\s2 heading 2;}}"
    r"{\info{\title Not text}}"
)


def read(body):
    return shown(read_rtf((HEAD + body + "}").encode("latin-1")))


def lines(body):
    return [line for _, line in read(body)]


def test_paragraphs_are_counted_and_tables_of_the_file_are_no_text():
    """Red: font names and colours are read, or ¶ 2 is not the second paragraph."""
    assert read(r"\pard one\par\pard two\line more\tab tab\par three") == [
        ("¶ 1", "one"),
        ("¶ 2", "two more\ttab"),
        ("¶ 3", "three"),
    ]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (r"caf\'e9", "café"),
        (r"caf\u233?", "café"),
        (r"\u8364\'80uro", "€uro"),
        (r"\uc2\u8364 EU 1", "€ 1"),
        (r"\uc0\u8364 1", "€1"),
        (r"\u-10179?\u-8704?", "😀"),
        (r"{\f1 \'ec\'ee\'f1\'f2}", "мост"),
        (r"{\f2 \'8b\'b4}", "橋"),
        (r"\ldblquote a\rdblquote\emdash b\~c\_d\-e", "“a”—b\u00a0c-de"),
        (r"\{x\}\\", "{x}\\"),
    ],
)
def test_characters_come_out(body, text):
    """Red: letters outside ASCII are noise or doubled."""
    assert lines(body) == [text]


def test_headings_make_a_path():
    """Red: a citation cannot say under which heading its text stands."""
    blocks = read_rtf(
        (
            HEAD + r"\pard\s1 Costs\par\pard one\par\pard\s2 2017\par\pard two\par"
            r"\pard\outlinelevel0 Dates\par}"
        ).encode()
    ).blocks
    assert [(block.headings, block.text) for block in blocks] == [
        (("Costs",), "# Costs\none"),
        (("Costs", "2017"), "## 2017\ntwo"),
        (("Dates",), "# Dates"),
    ]


def test_tables_are_rows():
    """Red: a table is a heap of words."""
    body = (
        r"\trowd\cellx1\cellx2\pard\intbl a\par again\cell b\cell\row"
        r"\trowd\pard\intbl\cell d\cell\row\pard after\par"
    )
    assert lines(body) == ["a again\tb", "\td", "after"]


def test_a_table_in_a_cell_stands_below_its_row_and_its_stand_in_is_no_text():
    """Red: what programs without tables in cells show is text, and cells of two tables are one."""
    inner = (
        r"\pard\intbl\itap2 {}\nestcell {}\nestcell{{\*\nesttableprops\trowd\nestrow}}"
        r"{{\nonesttables\par stand-in}}"
    )
    body = (
        r"\trowd\pard\intbl before\par "
        + inner.format("a", "b")
        + inner.format("c", "d")
        + r"\pard\intbl after\cell x\cell\row\pard last\par"
    )
    assert lines(body) == ["before after\tx", "a\tb", "c\td", "last"]
    assert lines(r"\pard\intbl\itap2 cut") == ["cut"]


def test_what_hangs_on_the_text_is_marked_and_deletions_are_dropped():
    """Red: notes, comments and hidden text are lost, or pass for the text."""
    body = (
        r"{\header head\par}\pard claim{\footnote\pard the note\par}{\*\atnid A}"
        r"{\*\annotation why?} goes on {\v unseen}{\deleted gone}"
        r"{\shp{\*\shpinst{\sp{\sn x}{\sv 1}}{\shptxt box\par}}{\shprslt box}}\par"
        r"\pard last {\field{\*\fldinst HYPERLINK x}{\fldrslt link}}\par{\footnote\ftnalt end}"
    )
    reading = read_rtf((HEAD + body + "}").encode())
    assert set(shown(reading)) == {
        ("¶ 1", "claim[footnote 1][comment 1] goes on"),
        ("¶ 2 (hidden)", "unseen"),
        ("¶ 3 (header)", "head"),
        ("¶ 4 (footnote 1)", "the note"),
        ("¶ 5 (comment 1)", "why?"),
        ("¶ 6 (text box)", "box"),
        ("¶ 7", "last link"),
        ("¶ 8", "[endnote 1]"),
        ("¶ 9 (endnote 1)", "end"),
    }
    assert reading.warnings == (
        "tracked changes: 1 deletions left out",
        "hidden: text kept and marked",
    )


def test_pictures_are_skipped_and_counted():
    """Red: a megabyte of hexadecimal digits is read as text."""
    reading = read_rtf(
        (HEAD + r"a{\pict\pngblip " + "00ff" * 1000 + r"}{\pict\bin4 {{{{}b}").encode()
    )
    assert texts(reading) == ["ab"]
    assert reading.warnings == ("2 pictures are not read",)


def test_broken_files_give_what_they_have():
    """Red: a file that was cut off is refused, or a deep one exhausts the stack."""
    assert lines(r"one\par {\b two") == ["one", "two"]
    assert lines(r"one}}} after") == ["one after"]
    assert refusal(read_rtf, b"no rtf").reason is Reason.UNREADABLE
    assert refusal(read_rtf, b"{\\rtf1 }").reason is Reason.EMPTY
    assert refusal(read_rtf, b"{\\rtf1 " + b"{" * 5000 + b"x").reason is Reason.UNREADABLE
    start = time.process_time()
    found = lines("a" + r"\footnote" * 20_000 + " b" + "\\" * 20_000)
    assert found == ["a[footnote 1]", "b" + "\\" * 10_000]
    assert time.process_time() - start < 5


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                b"{",
                b"}",
                b"\\par ",
                b"\\u55357?",
                b"\\'8",
                b"\\'81",
                b"\\bin9 ",
                b"\\*",
                b"\\cell",
                b"\\row",
                b"\\footnote ",
                b"x",
                b"\\s1 ",
                b"\\f2 ",
                b"\\uc99 ",
                b"\\ansicpg99999 ",
                b"\\fonttbl",
                b"\\",
                b"\\v ",
                b"\\u99999999 ",
                b"\xff\0",
            ]
        ),
        max_size=30,
    ).map(b"".join)
)
def test_no_file_breaks_the_reader(body):
    """Red: a malformed file is a crash, or a lone surrogate reaches the model."""
    try:
        reading = read_rtf(b"{\\rtf1 " + body)
    except Exception as error:
        assert getattr(error, "reason", None) is Reason.EMPTY, error
        return
    for block in reading.blocks:
        block.text.encode()
        assert "\0" not in block.text and "\r" not in block.text


words = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs", "Cn", "Co"]), min_size=1
).map(lambda text: f"x{text}x")


def encoded(text):
    units = text.encode("utf-16-le")
    numbers = [int.from_bytes(units[at : at + 2], "little") for at in range(0, len(units), 2)]
    return "".join(f"\\u{number}?" for number in numbers)


@settings(max_examples=50, deadline=None)
@given(st.lists(words, min_size=1, max_size=5))
def test_whatever_is_written_comes_out_in_order(paragraphs):
    """Red: text is lost, or cited at another paragraph."""
    body = "".join(f"\\pard {encoded(text)}\\par" for text in paragraphs)
    assert read(body) == [(f"¶ {index}", text) for index, text in enumerate(paragraphs, 1)]


def test_raised_lowered_and_struck_letters_have_their_signs():
    """Red: two million is read as 2×106, a price that was struck out as the price."""
    body = r"10{\super 6} CO{\sub 2\super }, {\strike 950} 900, x{\super a\'e9}"
    assert lines(body) == ["10^{6} CO_{2}, ~~950~~ 900, x^{aé}"]


def test_items_of_lists_have_their_sign_and_level():
    """Red: what is below an item cannot be told from what comes after it."""
    data = (
        rb"{\rtf1 {\listtext\tab\'b7\tab}\ls1\ilvl0 one\par"
        rb"{\listtext a)\tab}\ls1\ilvl1 below\par \pard after\par"
        rb"\pard\outlinelevel0{\pntext\pard 2.\tab}{\*\pn\pnlvlbody{\pntxta .}}Costs\par}"
    )
    (block, heading) = read_rtf(data).blocks
    assert block.text.split("\n") == ["- one", "  a) below", "after"]
    assert (heading.text, heading.headings) == ("# 2. Costs", ("2. Costs",))


def test_signs_of_other_fonts_and_links():
    """Red: a dose of at most 5 becomes £5; a link leads nowhere."""
    fonts = r"{\fonttbl{\f5\fnil\fcharset2 Symbol;}{\f6\fnil\fcharset2 Wingdings;}}"
    link = r'{\field{\*\fldinst{HYPERLINK "https://example.org/rules"}}{\fldrslt{\ul the rules}}}'
    assert lines(
        rf"{fonts}\f0 Dose {{\f5\'a3}} 5 {{\f5 m}}g {{\f6\'fe}}{{\f6\u-3928?}}\par {link}"
    ) == [
        "Dose ≤ 5 μg ☑☐",
        "the rules",
        "the rules: https://example.org/rules",
    ]
