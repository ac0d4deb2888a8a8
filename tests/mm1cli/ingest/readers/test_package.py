"""Packages of Office that lost their end: what came before it is kept."""

import zipfile
from io import BytesIO

import docx
import openpyxl
import pptx
import pytest
from docx.opc.packuri import PackURI
from docx.opc.part import Part
from office import RELATIONS, packed, saved, texts, unpacked

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.docx import read_docx
from mm1cli.ingest.readers.odf import read_odf
from mm1cli.ingest.readers.pptx import read_pptx
from mm1cli.ingest.readers.reader import ReadError
from mm1cli.ingest.readers.xlsx import read_xlsx

LINES = [f"line {number} of the report, in its own words" for number in range(400)]


def with_last(data, name):
    """The package with the part `name` at its end."""
    parts = unpacked(data)
    return packed({**{key: value for key, value in parts.items() if key != name},
                   name: parts[name]})  # fmt: skip


def without_end(data, share=1.0):
    """Cut at the list of parts, or so far into the last part."""
    last, end = data.rindex(b"PK\x03\x04"), data.index(b"PK\x01\x02")
    return data[: last + int(share * (end - last))]


@pytest.fixture(scope="module")
def word():
    document = docx.Document()
    for line in LINES:
        document.add_paragraph(line)
    return with_last(saved(document), "word/document.xml")


def test_a_document_that_was_cut_gives_what_came_before(word):
    """Red: a download that broke off is dropped whole, or passes for complete."""
    reading = read_docx(without_end(word))
    assert texts(reading) == LINES and "damaged, text may be missing" in reading.warnings[0]
    reading = read_docx(without_end(word, 0.5))
    found = texts(reading)
    assert found[:-1] == LINES[: len(found) - 1] and len(found) > len(LINES) // 4
    assert "damaged, text may be missing" in reading.warnings[0]
    assert read_docx(word).warnings == ()


def test_a_document_without_its_text_is_unreadable(word):
    """Red: an empty document stands for one whose text was cut off."""
    with pytest.raises(ReadError) as raised:
        read_docx(word[: word.index(b"word/document.xml") - 30])
    assert raised.value.reason is Reason.UNREADABLE


def test_other_packages_that_were_cut_say_so():
    """Red: half a workbook or presentation passes for a whole one."""
    book, slides = openpyxl.Workbook(), pptx.Presentation()
    book.active.append(["item", "cost"])
    slides.slides.add_slide(slides.slide_layouts[5]).shapes.title.text = "slide words"
    flat = packed(
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "content.xml": (
                '<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:'
                'office:1.0" xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0">'
                "<office:body><office:text><text:p>odt words</text:p></office:text></office:body>"
                "</office:document-content>"
            ),
        }
    )
    for read, data, word in (
        (read_xlsx, saved(book), "item"),
        (read_pptx, saved(slides), "slide words"),
        (read_odf, flat, "odt words"),
    ):
        reading = read(without_end(data))
        assert word in "\n".join(texts(reading))
        assert "damaged, text may be missing" in reading.warnings[0]


def test_a_file_inside_that_does_not_inflate_is_named_and_the_text_is_read():
    """Red: one damaged picture of a chart costs a report of ninety pages."""
    document = docx.Document()
    document.add_paragraph("read")
    target = PackURI("/word/embeddings/broken.xlsx")
    part = Part(target, "application/octet-stream", b"\0" * 500, document.part.package)
    document.part.relate_to(part, f"{RELATIONS}/package")
    data = saved(document)
    with zipfile.ZipFile(BytesIO(data)) as package:
        info = package.getinfo("word/embeddings/broken.xlsx")
    start = info.header_offset + 30 + len(info.filename)
    reading = read_docx(data[:start] + b"\xff\xff" + data[start + 2 :])
    assert texts(reading) == ["read"] and reading.members == ()
    assert any("broken.xlsx" in warning for warning in reading.warnings)
