"""Files that were dropped into Office documents, under the names that people gave them."""

import struct

import pytest
from office import compound, packed, refusal, relations, texts

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.docx import read_docx
from mm1cli.ingest.readers.ole_object import inner_file
from mm1cli.ingest.readers.rtf import read_rtf

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def dropped(label, content, wide=""):
    """The stream of a file that was dropped into a document, with its name in UTF-16 or not."""
    path = b"C:\\files\\" + label
    stream = struct.pack("<H", 2) + label + b"\0" + path + b"\0" + struct.pack("<II", 0x30000, 4)
    stream += b"tmp\0" + struct.pack("<I", len(content)) + content
    for name in ("C:\\tmp", wide, "C:\\files") if wide else ():
        stream += struct.pack("<I", len(name)) + name.encode("utf-16-le")
    return struct.pack("<I", len(stream)) + stream


def document(**objects):
    """A Word document of one line in which `objects` are embedded."""
    targets = {key: f"oleObject embeddings/{key}.bin" for key in objects}
    return packed(
        {
            "_rels/.rels": relations(rId1="officeDocument word/document.xml"),
            "word/document.xml": f'<w:document xmlns:w="{W}"><w:body><w:p><w:r><w:t>text</w:t>'
            "</w:r></w:p></w:body></w:document>",
            "word/_rels/document.xml.rels": relations(**targets),
            **{f"word/embeddings/{key}.bin": data for key, data in objects.items()},
        }
    )


def test_files_in_objects_come_out_under_their_names():
    """Red: the price list that a contract embeds is "an old Office file", and is not read."""
    kind = b"Acme Drawing" + b"\0"
    reading = read_docx(
        document(
            a=compound({"\1Ole10Native": dropped(b"terms.txt", b"36 months", "Fristen ü.txt")}),
            b=compound({"\1Ole10Native": dropped(b"terms.txt", b"24 months")}),
            c=compound({"CONTENTS": b"%PDF-1.4 drawn"}),
            d=compound({"Workbook": b"cells"}),
            e=compound({"\1CompObj": bytes(28) + struct.pack("<I", len(kind)) + kind}),
            f=compound({"EncryptedPackage": b"x"}),
            g=b"\xd0\xcf\x11\xe0 and no more",
        )
    )
    assert texts(reading) == ["text"]
    found = {member.name: member for member in reading.members}
    assert list(found) == ["Fristen ü.txt", "terms.txt", "c.pdf", "d.xls", "e.bin", "f.bin"]
    assert found["Fristen ü.txt"].data == b"36 months" and found["terms.txt"].data == b"24 months"
    assert found["c.pdf"].data.startswith(b"%PDF-1.4 drawn")
    assert found["e.bin"].refusal.detail == "an object of Acme Drawing"
    assert found["f.bin"].refusal.reason is Reason.ENCRYPTED
    assert [warning[:26] for warning in reading.warnings] == ["g.bin cannot be taken out:"]


@pytest.mark.parametrize("stream", [b"", b"\1\0\0\0\2", struct.pack("<IH", 9, 2) + b"x" * 5000])
def test_objects_that_are_no_files_are_refused(stream):
    """Red: a reader is stopped by an object, or takes anything for a file."""
    error = refusal(lambda data: inner_file("a.bin", data), compound({"\1Ole10Native": stream}))
    assert (error.reason, error.detail) == (Reason.UNSUPPORTED, "an unknown object")


def test_an_object_that_is_cut_says_so():
    """Red: half of a file passes for all of it."""
    stream = dropped(b"terms.txt", b"x" * 40).replace(struct.pack("<I", 40), b"\xff\xff\xff\x7f")
    error = refusal(lambda data: inner_file("a.bin", data), compound({"\1Ole10Native": stream}))
    assert (error.reason, error.detail) == (Reason.UNREADABLE, "terms.txt: its end is missing")


def test_objects_in_rtf_are_files_too():
    """Red: what is embedded in a mail or an old letter is lost without a word."""
    inside = dropped(b"terms.txt", b"36 months")[4:]
    header = struct.pack("<III", 0x501, 2, 8) + b"Package\0" + bytes(8)
    data = (header + struct.pack("<I", len(inside)) + inside).hex()
    reading = read_rtf(
        rb"{\rtf1 see{\object\objemb{\*\objclass Package}{\*\objdata %b}} end"
        rb"{\object{\*\objdata 0501}}}" % data.encode()
    )
    assert texts(reading) == ["see end"]
    assert reading.members[0].name == "terms.txt" and reading.members[0].data == b"36 months"
    assert reading.members[1].refusal.reason is Reason.UNREADABLE
