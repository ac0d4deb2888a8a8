import zipfile
from io import BytesIO

import docx
import pytest
from docx.oxml import parse_xml

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.docx import read_docx
from mm1cli.ingest.readers.reader import ReadError

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
NOTES_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.footnotes+xml"
NOTES_ROLE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/footnotes"


def saved(document):
    output = BytesIO()
    document.save(output)
    return output.getvalue()


def lines(document):
    (block,) = read_docx(saved(document)).blocks
    assert block.unit == "paragraph" and block.first == 1
    return block.text.split("\n")


def append(document, xml):
    document.element.body.insert(-1, parse_xml(xml.replace(">", f" {W}>", 1)))


def refusal(data):
    with pytest.raises(ReadError) as raised:
        read_docx(data)
    assert "\n" not in raised.value.detail
    return raised.value


def repacked(data, **changed):
    output = BytesIO()
    with (
        zipfile.ZipFile(BytesIO(data)) as source,
        zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, changed.pop(name, source.read(name)))
        for name, content in changed.items():
            target.writestr(name, content)
    return output.getvalue()


def test_paragraphs_and_tables_come_in_order_and_are_counted():
    """Red: the table moves to the end, or ¶ 4 of a citation is not the fourth paragraph."""
    document = docx.Document()
    document.add_paragraph("before\nthe table")
    document.add_paragraph("")
    table = document.add_table(2, 2)
    for index, text in enumerate(["a", "b", "c\nsecond", ""]):
        table.cell(index // 2, index % 2).text = text
    table.cell(1, 1).add_table(1, 2).cell(0, 1).text = "nested"
    document.add_paragraph("after")
    expected = ["before the table", "a\tb", "c second", "\tnested", "after"]
    assert lines(document) == expected


def test_text_that_python_docx_passes_over_is_read():
    """Red: forms, tracked insertions and text boxes are dropped in silence."""
    document = docx.Document()
    append(
        document,
        "<w:sdt><w:sdtContent><w:p><w:r><w:t>control</w:t></w:r></w:p></w:sdtContent></w:sdt>",
    )
    append(
        document,
        "<w:p><w:ins><w:r><w:t>kept</w:t></w:r></w:ins>"
        "<w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>",
    )
    append(
        document,
        "<w:p><w:r><w:t>anchor</w:t><w:pict><w:txbxContent><w:p><w:r><w:t>box</w:t></w:r></w:p>"
        "</w:txbxContent></w:pict></w:r></w:p>",
    )
    assert lines(document) == ["control", "kept", "anchor", "box"]


def test_headers_and_footers_come_last_and_once():
    """Red: running heads shift the count of paragraphs, or are lost."""
    document = docx.Document()
    document.sections[0].header.paragraphs[0].text = "Confidential"
    document.add_paragraph("body")
    document.add_section().header.is_linked_to_previous = False
    document.sections[1].header.paragraphs[0].text = "Confidential"
    document.sections[0].footer.paragraphs[0].text = "Port Ellery"
    assert lines(document) == ["body", "Confidential", "Port Ellery"]


def test_a_footnote_follows_the_paragraph_that_refers_to_it():
    """Red: what a text says in its notes is lost."""
    from docx.opc.packuri import PackURI
    from docx.opc.part import Part

    document = docx.Document()
    notes = (
        f'<w:footnotes {W}><w:footnote w:id="0" w:type="separator"><w:p/></w:footnote>'
        '<w:footnote w:id="2"><w:p><w:r><w:t>the note</w:t></w:r></w:p></w:footnote></w:footnotes>'
    )
    part = Part(PackURI("/word/footnotes.xml"), NOTES_TYPE, notes.encode(), document.part.package)
    document.part.relate_to(part, NOTES_ROLE)
    append(document, '<w:p><w:r><w:t>claim</w:t><w:footnoteReference w:id="2"/></w:r></w:p>')
    document.add_paragraph("next")
    assert lines(document) == ["claim", "the note", "next"]


def test_comments_are_counted_in_a_warning():
    """Red: reviewers' comments are left out in silence."""
    document = docx.Document()
    paragraph = document.add_paragraph("text")
    document.add_comment(paragraph.runs, text="why?", author="reviewer")
    assert read_docx(saved(document)).warnings == ("1 comments are not read",)


def test_a_document_without_text_is_empty():
    """Red: an empty form counts as read."""
    assert refusal(saved(docx.Document())).reason is Reason.EMPTY


def test_broken_packages_are_unreadable():
    """Red: a download that was cut off ends the run."""
    document = docx.Document()
    document.add_paragraph("text")
    data = saved(document)
    assert refusal(data[:-2000]).reason is Reason.UNREADABLE
    assert refusal(b"not a zip").reason is Reason.UNREADABLE
    assert refusal(repacked(data, **{"word/document.xml": b"<open"})).reason is Reason.UNREADABLE
    empty = BytesIO()
    zipfile.ZipFile(empty, "w").close()
    assert refusal(empty.getvalue()).reason is Reason.UNREADABLE


def test_a_locked_file_is_told_from_an_old_one():
    """Red: people with a locked file are told that it is broken."""
    ole = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(512)
    assert refusal(ole + "EncryptedPackage".encode("utf-16-le")).reason is Reason.ENCRYPTED
    assert refusal(ole + "WordDocument".encode("utf-16-le")).reason is Reason.UNSUPPORTED


def test_a_zip_bomb_is_stopped_while_it_inflates():
    """Red: 100 KB of file take gigabytes of memory."""
    bomb = repacked(saved(docx.Document()), **{"word/media/bomb.xml": b" " * 100_000_000})
    assert len(bomb) < 300_000
    error = refusal(bomb)
    assert error.reason is Reason.TOO_LARGE and "MiB" in error.detail


def test_entities_do_not_expand():
    """Red: a few hundred bytes of nested entities fill the memory, or a local file is read."""
    document = docx.Document()
    document.add_paragraph("MARK")
    data = saved(document)
    with zipfile.ZipFile(BytesIO(data)) as package:
        xml = package.read("word/document.xml").decode()
    declared = '<!DOCTYPE x [<!ENTITY inner "laugh"><!ENTITY file SYSTEM "/etc/hostname">]>'
    for entity in ("inner", "file"):
        hostile = xml.replace("?>", f"?>{declared}", 1).replace("MARK", f"a&{entity};b")
        error = refusal(repacked(data, **{"word/document.xml": hostile.encode()}))
        assert error.reason is Reason.UNREADABLE and f"'{entity}'" in error.detail
