import docx
import openpyxl
import pptx
import pytest
from office import packed, saved

from mm1cli.ingest.containers import ContainerExpansion
from mm1cli.ingest.corpus import Document
from mm1cli.ingest.readers import HEAD_BYTES, READERS, ReadError, choose
from mm1cli.ingest.sandbox import Sandbox


def letter():
    document = docx.Document()
    document.add_paragraph("letter")
    return saved(document)


def talk():
    presentation = pptx.Presentation()
    presentation.slides.add_slide(presentation.slide_layouts[5]).shapes.title.text = "talk"
    return saved(presentation)


def table():
    workbook = openpyxl.Workbook()
    workbook.active["A1"] = "table"
    return saved(workbook)


@pytest.mark.parametrize(
    ("name", "make", "reader"),
    [
        ("a.docx", letter, "docx"),
        ("a", letter, "docx"),
        ("a.xlsx", letter, "docx"),
        ("a.docx", talk, "pptx"),
        ("a.doc", talk, "pptx"),
        ("a.pptx", table, "xlsx"),
        ("a.XLSM", table, "xlsx"),
        ("a.xls", table, "xlsx"),
    ],
)
def test_an_office_file_under_a_wrong_name_is_read(name, make, reader):
    """Red: a renamed file is broken, or its markup is read as text."""
    assert choose(name, make()[:HEAD_BYTES])[0].name == reader


@pytest.mark.parametrize(
    ("name", "head", "reader", "kind"),
    [
        ("a.docx", b"%PDF-1.7", "pdf", "pdf"),
        ("a.doc", b"{\\rtf1 x}", "rtf", "rtf"),
        ("a.xls", b"<html><table>", "html", "html"),
        ("a", b"  <!DOCTYPE html>", "html", "html"),
        ("a.txt", b"<html> is how they start", "text", "text"),
        ("a.ipynb", b"{}", "notebook", "notebook"),
        ("a.csv", b"a,b", "csv", "csv"),
        ("a.eml", b"From: x", "mail", "e-mail"),
        ("a.mbox", b"From x", "mbox", "mailbox"),
        ("a.zip", b"PK\x03\x04", "archive", "archive"),
        ("a.tar.gz", b"\x1f\x8b", "archive", "archive"),
        ("a.odt", b"PK\x03\x04", "odf", "odt"),
        ("a", b"PK\x03\x04....mimetypeapplication/epub+zip", "epub", "epub"),
        ("a", b"\0" * 257 + b"ustar", "archive", "archive"),
    ],
)
def test_every_format_finds_its_reader(name, head, reader, kind):
    """Red: a format that is read goes to the text reader, or nowhere."""
    chosen, chosen_kind = choose(name, head)
    assert (chosen.name, chosen_kind) == (reader, kind)


@pytest.mark.parametrize(
    ("name", "head"), [("a.orc", b"ORC\n\x06\x12\0"), ("a", b"ORC\n\0"), ("a.dta", b"\x73\0")]
)
def test_tables_that_are_not_read_are_named_with_what_helps(name, head):
    """Red: a table of data is "binary", and nobody learns what to do."""
    with pytest.raises(ReadError, match="convert it to Parquet"):
        choose(name, head)


def test_all_but_text_is_read_in_the_sandbox():
    """Red: a hostile file runs its parser in our own process."""
    inside = {name for name, reader in READERS.items() if not reader.sandboxed}
    assert inside <= {"text", "markdown"}


def test_extensions_belong_to_one_reader():
    """Red: which reader takes a file depends on the order they are listed in."""
    extensions = [extension for reader in READERS.values() for extension in reader.kinds]
    assert len(extensions) == len(set(extensions))


def test_readers_work_in_the_child():
    """Red: a reader passes its tests here and needs what the sandbox forbids."""
    files = {
        "a.docx": letter(),
        "a.pptx": talk(),
        "a.xlsx": table(),
        "a.html": b"<p>page",
        "a.csv": b"x,y\n",
        "a.rtf": b"{\\rtf1 rich}",
        "a.eml": b"Subject: mail\n\nbody\n",
        "a.ipynb": b'{"cells": [{"cell_type": "code", "source": "x = 1"}]}',
    }
    with Sandbox() as sandbox:
        (archive, *outcomes) = list(ContainerExpansion(sandbox).expand("all.zip", packed(files)))
    assert isinstance(archive, Document) and archive.kind == "archive"
    found = {outcome.path: [block.text for block in outcome.blocks] for outcome in outcomes}
    assert found == {
        "all.zip/a.docx": ["letter"],
        "all.zip/a.pptx": ["# talk"],
        "all.zip/a.xlsx": ["table"],
        "all.zip/a.html": ["page"],
        "all.zip/a.csv": ["x\ty"],
        "all.zip/a.rtf": ["rich"],
        "all.zip/a.eml": ["Subject: mail", "body"],
        "all.zip/a.ipynb": ["x = 1"],
    }
