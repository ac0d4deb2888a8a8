import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm1cli.ingest.corpus import Block, Reason
from mm1cli.ingest.readers import choose
from mm1cli.ingest.readers.reader import ReadError
from mm1cli.ingest.readers.text import read_text


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_a_byte_order_mark_decides_and_is_not_text(mark, encoding):
    """Red: files saved by Windows editors are binary, or start with an invisible character."""
    reading = read_text(mark + "naïve\r\nmenü".encode(encoding))
    assert reading.blocks == (Block("naïve\nmenü", source=((0, 0), (6, 7))),)
    assert reading.warnings == ()


def test_other_encodings_are_read_with_a_warning_that_names_them():
    """Red: old files are refused, or read wrongly without a word."""
    reading = read_text("Café “Ellery”".encode("cp1252"))
    assert reading.blocks[0].text == "Café “Ellery”"
    assert len(reading.warnings) == 1 and "cp1252" in reading.warnings[0]
    assert "latin-1" in read_text(b"a letter \x81 that cp1252 lacks").warnings[0]


@pytest.mark.parametrize(
    "data",
    [b"abc\0def", bytes(range(1, 32)) * 4, b"\x7fELF\x02\x01\x01\0\0", b"\xff\xfe\x00\xd8\x00\x00"],
)
def test_binary_data_is_refused(data):
    """Red: machine code fills the context."""
    with pytest.raises(ReadError) as raised:
        read_text(data)
    assert raised.value.reason is Reason.BINARY


def test_terminal_colours_are_text():
    """Red: build logs count as binary."""
    log = b"\x1b[31merror\x1b[0m: x\n" * 50
    assert read_text(log).blocks[0].text.count("\n") == 50


@given(st.binary(max_size=300))
def test_whatever_is_read_can_be_encoded_and_has_one_line_end(data):
    """Red: a NUL, a lone surrogate or a bare carriage return reaches the model or a terminal."""
    try:
        reading = read_text(data)
    except ReadError as error:
        assert error.reason in {Reason.BINARY, Reason.EMPTY}
        return
    text = reading.blocks[0].text
    text.encode("utf-8")
    assert "\0" not in text and "\r" not in text


@pytest.mark.parametrize(
    ("name", "head", "reader", "kind"),
    [
        ("a.md", b"# x", "text", "markdown"),
        ("src/a.PY", b"x = 1", "text", "python"),
        ("Makefile", b"all:", "text", "makefile"),
        ("notes", b"hello", "text", "text"),
        ("notes.key", b"hello", "text", "text"),
        ("about.pdf.txt", b"%PDF- is how they start", "text", "text"),
        ("scan", b"%PDF-1.7\n", "pdf", "pdf"),
        ("old.doc", b"only text after all", "text", "text"),
        ("letter", b"PK\x03\x04....word/document.xml", "docx", "docx"),
    ],
)
def test_the_reader_is_chosen_by_extension_then_content(name, head, reader, kind):
    """Red: files go to the wrong reader."""
    chosen, chosen_kind = choose(name, head)
    assert (chosen.name, chosen_kind) == (reader, kind)


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("photo.jpg", b"\xff\xd8\xff\xe0\0", "image"),
        ("photo", b"\x89PNG\r\n\x1a\n\0", "image"),
        ("slides.pptx", b"PK\x03\x04\0\0ppt/", "PowerPoint presentation"),
        ("table.xlsx", b"PK\x03\x04\0\0xl/", "Excel workbook"),
        ("novel.epub", b"PK\x03\x04\0\0mimetype", "e-book"),
        ("old.doc", b"\xd0\xcf\x11\xe0", "Word 97-2003 document"),
        ("letter.rtf", b"{\\rtf1 hello}", "rich text"),
        ("film.mp4", b"\0\0\0\x20ftyp", "video"),
    ],
)
def test_known_formats_without_a_reader_are_named(name, head, kind):
    """Red: a slide deck is called binary, and nobody learns that a PDF of it would be read."""
    with pytest.raises(ReadError) as raised:
        choose(name, head)
    assert (raised.value.reason, raised.value.detail) == (Reason.UNSUPPORTED, kind)
