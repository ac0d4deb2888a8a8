from io import BytesIO

import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, NameObject
from reportlab.pdfgen.canvas import Canvas

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.pdf import clean, page_ranges, read_pdf
from mm1cli.ingest.readers.reader import ReadError


def refusal(data):
    with pytest.raises(ReadError) as raised:
        read_pdf(data)
    assert "\n" not in raised.value.detail
    return raised.value


def encrypted(data, user_password, algorithm):
    writer = PdfWriter(clone_from=BytesIO(data))
    writer.encrypt(user_password, owner_password="owner", algorithm=algorithm)
    output = BytesIO()
    writer.write(output)
    return output.getvalue()


def test_one_block_for_each_page_with_text(make_pdf):
    """Red: citations name the wrong page."""
    reading = read_pdf(make_pdf("first", "second"))
    assert [(block.text, block.place.index) for block in reading.blocks] == [
        ("first", 0),
        ("second", 1),
    ]
    assert [block.place.label for block in reading.blocks] == ["", ""]
    assert reading.warnings == ()
    assert reading.library.startswith("pypdf ")


def test_printed_page_labels_are_kept():
    """Red: a citation says page 3 where the paper itself says page 1."""
    output = BytesIO()
    canvas = Canvas(output)
    canvas.addPageLabel(0, style="ROMAN_LOWER", start=1)
    canvas.addPageLabel(2, style="ARABIC", start=1, prefix="A-")
    for text in "abc":
        canvas.drawString(72, 700, text)
        canvas.showPage()
    canvas.save()
    blocks = read_pdf(output.getvalue()).blocks
    assert [block.place.label for block in blocks] == ["i", "ii", "A-1"]
    assert str(blocks[2].locate(0, 1)) == "p. A-1"


def test_pages_without_text_are_named(make_pdf):
    """Red: scanned pages vanish without a word."""
    reading = read_pdf(make_pdf("a", "", "", "", "b", ""))
    assert [block.place.index for block in reading.blocks] == [0, 4]
    assert reading.warnings == ("pages 2-4, 6 have no text layer",)
    assert page_ranges([6]) == "page 7"


def test_a_pdf_of_blank_pages_is_said_to_have_no_text(make_pdf):
    """Red: a scan counts as read."""
    assert refusal(make_pdf("", "")).reason is Reason.NO_TEXT


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-256"])
def test_a_password_is_told_from_damage(make_pdf, algorithm):
    """Red: people with a locked file are told that it is broken."""
    assert refusal(encrypted(make_pdf("secret"), "user", algorithm)).reason is Reason.ENCRYPTED


def test_a_file_locked_only_against_printing_is_read(make_pdf):
    """Red: many journals' PDFs, which open without a password, are refused."""
    reading = read_pdf(encrypted(make_pdf("open"), "", "AES-256"))
    assert reading.blocks[0].text == "open"


@pytest.mark.parametrize("data", [b"%PDF-1.7\n", b"%PDF-1.4\n1 0 obj\n<<", b"not a pdf at all"])
def test_a_broken_pdf_is_unreadable_with_a_message(data, capfd):
    """Red: a damaged file ends the run, or pypdf writes on the user's terminal."""
    error = refusal(data)
    assert error.reason is Reason.UNREADABLE and error.detail
    assert capfd.readouterr() == ("", "")


def test_a_truncated_pdf_says_so(make_pdf, capfd):
    """Red: text that was lost with the end of a file is lost in silence."""
    data = make_pdf("first", "second")
    try:
        reading = read_pdf(data[: len(data) * 2 // 3])
    except ReadError as error:
        assert error.reason in {Reason.UNREADABLE, Reason.NO_TEXT}
    else:
        assert any("damaged" in warning for warning in reading.warnings)
    assert capfd.readouterr() == ("", "")


def test_a_page_that_inflates_without_end_is_named_and_the_others_are_read(make_pdf):
    """Red: one hostile page costs the whole document, or all the memory."""
    writer = PdfWriter(clone_from=BytesIO(make_pdf("good", "bad")))
    stream = DecodedStreamObject()
    stream.set_data(b" " * 80_000_000)
    writer.pages[1][NameObject("/Contents")] = writer._add_object(stream.flate_encode())
    output = BytesIO()
    writer.write(output)
    reading = read_pdf(output.getvalue())
    assert [block.text for block in reading.blocks] == ["good"]
    assert any("page 2 could not be read" in warning for warning in reading.warnings)


def test_clean_spells_out_ligatures_and_drops_what_is_not_text():
    """Red: a search for "office" misses "oﬃce"; a surrogate crashes the output."""
    assert clean("e\ufb03cient \ufb01ne\0 \ud800x \ud835\udc00  \r\nnext\n\n") == (
        "efficient fine x \U0001d400\nnext"
    )
