import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm1cli.ingest.corpus import Block, Reason
from mm1cli.ingest.readers import choose
from mm1cli.ingest.readers.markdown import read_markdown
from mm1cli.ingest.readers.reader import ReadError
from mm1cli.ingest.readers.text import normalise_newlines, read_text


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
        ("a.md", b"# x", "markdown", "markdown"),
        ("src/a.PY", b"x = 1", "text", "python"),
        ("Makefile", b"all:", "text", "makefile"),
        ("notes", b"hello", "text", "text"),
        ("notes.key", b"hello", "text", "text"),
        ("about.pdf.txt", b"%PDF- is how they start", "text", "text"),
        ("scan", b"%PDF-1.7\n", "pdf", "pdf"),
        ("old.doc", b"only text after all", "text", "text"),
        ("de.msg", b'::msgcat::mcset de "Abort" "Abbruch"', "text", "text"),
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
        (
            "old.doc",
            b"\xd0\xcf\x11\xe0",
            "Word 97-2003 document; --convert reads it (by LibreOffice), or save it as .docx",
        ),
        ("all.7z", b"7z\xbc\xaf\x27\x1c", "archive; unpack it first"),
        ("all.rar", b"Rar!\x1a\x07", "archive; unpack it first"),
        ("app.jar", b"PK\x03\x04\0\0META", "program"),
        ("film.mp4", b"\0\0\0\x20ftyp", "video"),
    ],
)
def test_known_formats_without_a_reader_are_named(name, head, kind):
    """Red: a slide deck is called binary, and nobody learns that a PDF of it would be read."""
    with pytest.raises(ReadError) as raised:
        choose(name, head)
    assert (raised.value.reason, raised.value.detail) == (Reason.UNSUPPORTED, kind)


@given(
    st.text(st.sampled_from("a港é\r\n\u2028 #"), max_size=40),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    st.data(),
)
def test_the_map_leads_from_any_slice_back_to_its_source(source, encoding, data):
    """Red: an editor that opens a citation highlights other words."""
    try:
        (block,) = read_text(source.encode(encoding)).blocks
    except ReadError:
        assert not source.strip()
        return
    start = data.draw(st.integers(0, len(block.text)))
    end = data.draw(st.integers(start, len(block.text)))
    piece = source[block.source_offset(start) : block.source_offset(end)]
    assert normalise_newlines(piece) == block.text[start:end]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Каждый охотник желает знать, где сидит фазан. " * 3, "cp1251"),
        ("港の歴史。次の文。東京都に住んでいます。" * 3, "cp932"),
        ("港口的历史很长，这里有很多人。" * 3, "gb18030"),
        ("Zażółć gęślą jaźń. Wszyscy ludzie rodzą się wolni. " * 4, "cp1250"),
        ("Καλημέρα κόσμε, τι κάνεις σήμερα; " * 4, "cp1253"),
        ("L'été dernier, les élèves ont étudié l'économie. " * 9, "cp1252"),
        ("Le fermier paie son loyer le cinquième jour. Où est l'hôtel ? " * 3, "cp850"),
        ("Les élèves ont étudié l’économie à l’hôtel. " * 3, "mac_roman"),
        ("Przewoźnik jest zobowiązany płacić czynsz do piątego dnia miesiąca. ", "iso8859_2"),
        ("Dopravce je povinen platit nájem měsíčně. Příští rok se změní. ", "cp1250"),
        ("Az őrült bérlő köteles a díjat fizetni, különösen télen. ", "cp1250"),
        ("Kiracı her ayın beşinci gününe kadar kirayı öder. Şişli'deki büro ", "cp1254"),
        ("המוביל חייב לשלם את דמי השכירות עד היום החמישי בכל חודש. ", "cp1255"),
        ("運送人は毎月五日までに賃料を支払わなければならない。" * 2, "euc_jp"),
    ],
)
def test_old_encodings_are_told_apart(text, encoding):
    """Red: Russian, Polish or Japanese files become letter soup."""
    reading = read_text(text.encode(encoding))
    assert reading.blocks[0].text == text
    assert reading.encoding == encoding
    assert encoding in reading.warnings[0]


def test_utf16_without_a_mark_is_text():
    """Red: exports of Windows programs are called binary."""
    reading = read_text("Ellery Bridge, 1904".encode("utf-16-le"))
    assert (reading.blocks[0].text, reading.encoding) == ("Ellery Bridge, 1904", "utf-16-le")


def test_markdown_knows_the_headings_of_every_line():
    """Red: a citation cannot say which section it is from."""
    text = "intro\n# A\none\n## B #\ntwo\n```\n# no heading\n```\nC\n---\nthree\n\nD\n===\nfour\n"
    (block,) = read_markdown(text.encode()).blocks
    told = {
        word: block.locate(text.index(word), text.index(word) + 1).headings
        for word in ("intro", "one", "two", "no heading", "three", "four")
    }
    assert told == {
        "intro": (),
        "one": ("A",),
        "two": ("A", "B"),
        "no heading": ("A", "B"),
        "three": ("A", "C"),
        "four": ("D",),
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
def test_a_file_that_was_cut_inside_a_character_stays_in_its_encoding(encoding):
    """Red: one missing byte turns every letter outside ASCII into two wrong ones."""
    reading = read_text("Gr\u00fc\u00dfe aus K\u00f6ln \u6e2f".encode(encoding)[:-1])
    assert reading.blocks[0].text == "Gr\u00fc\u00dfe aus K\u00f6ln "
    assert reading.warnings == ("ends inside a character: its end is missing",)
    assert read_text(b"caf\xe9").blocks[0].text == "caf\u00e9"
