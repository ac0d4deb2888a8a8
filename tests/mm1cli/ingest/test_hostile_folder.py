"""One folder of everything that has ever broken a reader: each file is one line, and none more."""

import io
import os
import zipfile
import zlib

import pytest
from pypdf import PdfWriter

from mm1cli.ingest import Reason, read_corpus
from mm1cli.ingest.cache import Cache
from mm1cli.ingest.read import ReadOptions


def docx_of(document: bytes) -> bytes:
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", b"<Types/>")
        archive.writestr("word/document.xml", document)
    return output.getvalue()


def locked(data: bytes) -> bytes:
    writer = PdfWriter(clone_from=io.BytesIO(data))
    writer.encrypt("secret", algorithm="AES-256")
    output = io.BytesIO()
    writer.write(output)
    return output.getvalue()


@pytest.fixture
def hostile(tmp_path, make_pdf):
    """The folder, and for each name in it what must become of the file: None is read."""
    good = make_pdf("good")
    page = b"3 0 obj\n<</Type/Page/Parent 2 0 R/Contents 4 0 R>>\nendobj\n"
    bomb = zlib.compress(zlib.compress(b"\0" * 50_000_000))
    nested = b"%PDF-1.7\n1 0 obj\n" + b"<<" * 50_000
    cycle = (
        b"%PDF-1.4\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n"
        b"2 0 obj\n<</Type/Pages/Kids[2 0 R 2 0 R]/Count 9>>\nendobj\n"
        b"trailer\n<</Root 1 0 R>>\n%%EOF"
    )
    entities = b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">%s]><a>&z;</a>' % b"".join(
        b'<!ENTITY %c "&%c;&%c;&%c;">' % (code, code - 1, code - 1, code - 1)
        for code in range(ord("b"), ord("z") + 1)
    )
    files: dict[bytes, tuple[bytes, set[Reason | None]]] = {
        b"good.pdf": (good, {None}),
        b"cut.pdf": (good[:250], {Reason.UNREADABLE, Reason.NO_TEXT}),
        b"locked.pdf": (locked(good), {Reason.ENCRYPTED}),
        b"nested.pdf": (nested, {Reason.UNREADABLE, Reason.TOO_SLOW}),
        b"cycle.pdf": (cycle, {Reason.UNREADABLE, Reason.NO_TEXT}),
        b"page.pdf": (b"%PDF-1.4\n" + page, {Reason.UNREADABLE, Reason.NO_TEXT}),
        b"bomb.pdf": (b"%PDF-1.4\n" + bomb, {Reason.UNREADABLE, Reason.NO_TEXT}),
        b"text.pdf": (b"only text\n", {Reason.UNREADABLE}),
        b"picture.txt": (b"\x89PNG\r\n\x1a\n\0\0", {Reason.BINARY}),
        b"pdf.txt": (b"%PDF-1.4 \0\1\2", {Reason.BINARY}),
        b"entities.docx": (docx_of(entities), {Reason.UNREADABLE, Reason.EMPTY}),
        b"bomb.docx": (docx_of(b" " * 60_000_000), {Reason.TOO_LARGE, Reason.UNREADABLE}),
        b"cut.docx": (docx_of(b"<a/>")[:60], {Reason.UNREADABLE}),
        b"a b'c\"d\ne.txt": (b"odd name", {None}),
        b"\xff\xfe.txt": (b"name is no text", {None}),
        b"-rf": (b"looks like an option", {None}),
        b"marks\xe2\x80\xae.txt": (b"turns its name round", {None}),
        b"nul.txt": (b"a\0b", {Reason.BINARY}),
        b"endless.txt": (b"x" * 3_000_000, {None}),
        b"lone.txt": (b"\xed\xa0\x80 lone surrogate", {None}),
    }
    for name, (data, _) in files.items():
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:  # noqa: PTH123, PTH118
            file.write(data)
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "again").symlink_to(tmp_path)
    (tmp_path / "loop" / "self").symlink_to("self")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path, {name: reasons for name, (_, reasons) in files.items()}


def test_each_file_is_a_document_or_one_omission(hostile, monkeypatch, capfd):
    """Red: one file ends or hangs the run, is lost, or writes on the terminal."""
    folder, expected = hostile
    monkeypatch.chdir(folder)
    corpus = read_corpus(["."])
    outcomes = [*corpus.documents, *corpus.omissions]
    assert len(outcomes) == len({one.path for one in outcomes})
    assert all(one.path.isprintable() and "\n" not in one.path for one in outcomes)
    by_path = {one.path: getattr(one, "reason", None) for one in outcomes}
    spelled = {
        b"a b'c\"d\ne.txt": "a b'c\"d\\ne.txt",
        b"\xff\xfe.txt": "\\xff\\xfe.txt",
        b"marks\xe2\x80\xae.txt": "marks\\u202e.txt",
    }
    for name, reasons in expected.items():
        assert by_path[spelled.get(name, name.decode("utf-8", "replace"))] in reasons, name
    assert by_path["pipe"] is Reason.NOT_A_FILE
    assert by_path["loop/again"] is Reason.DUPLICATE
    assert len(outcomes) == len(expected) + 3
    for document in corpus.documents:
        for block in document.blocks:
            block.text.encode()
            assert "\0" not in block.text
    assert capfd.readouterr() == ("", "")


def test_the_cache_changes_nothing(hostile, tmp_path_factory):
    """Red: a second run says something else about the same files."""
    folder, _ = hostile
    options = ReadOptions(cache=Cache(tmp_path_factory.mktemp("cache")))
    names = [str(folder / name) for name in ("good.pdf", "cut.pdf", "locked.pdf", "cut.docx")]
    assert read_corpus(names, options=options) == read_corpus(names, options=options)
