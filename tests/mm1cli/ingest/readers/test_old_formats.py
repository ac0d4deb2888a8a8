"""Formats that people's old files and mail programs have: .xls, .xlsb, .msg, winmail.dat."""

import datetime
import os
import struct
import sys

import docx
import openpyxl
import pytest
from commandline import write_files
from hypothesis import given, settings
from hypothesis import strategies as st
from office import compound, refusal, saved, shown

from mm1cli.commands.reading import Sources, outcomes
from mm1cli.errors import UsageError
from mm1cli.ingest import read_corpus
from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.read import ReadOptions
from mm1cli.ingest.readers import choose
from mm1cli.ingest.readers.outlook import read_msg, read_winmail
from mm1cli.ingest.readers.package import OLE_MAGIC
from mm1cli.ingest.readers.reader import ReadError
from mm1cli.ingest.readers.tnef import TNEF_MAGIC
from mm1cli.ingest.readers.xls import read_xls
from mm1cli.output import make_sink
from mm1cli.settings import Settings


def test_cells_of_old_workbooks_keep_their_place():
    """Red: the workbooks of twenty years are refused, or cited at other cells."""
    workbook = openpyxl.Workbook()
    sheet = workbook.active
    sheet["B2"], sheet["C2"], sheet["B3"], sheet["C3"] = "Year", "Ducks", 2019, True
    sheet["C4"] = datetime.datetime(2024, 3, 1, 12, 30)
    workbook.create_sheet("Old")["A1"] = "kept back"
    workbook["Old"].sheet_state = "hidden"
    assert shown(read_xls(saved(workbook))) == [
        ("Sheet!B2:C2", "Year\tDucks"),
        ("Sheet!B3:C3", "2019\tTRUE"),
        ("Sheet!B4:C4", "\t2024-03-01 12:30:00"),
        ("Old!A1 (hidden sheet)", "kept back"),
    ]


def test_the_name_of_a_workbook_is_believed_only_where_it_is_one():
    """Red: a table of text that some program calls .xls is refused."""
    assert choose("a.xls", OLE_MAGIC + b"\0" * 100)[0].name == "xls"
    assert choose("a.xls", b"name\tsum\nEva\t3\n")[0].name == "csv"
    assert choose("a.xls", b"<html><table>")[0].name == "html"
    assert choose("a.xls", b"PK\x03\x04 xl/workbook.xml")[0].name == "xlsx"
    assert choose("winmail.dat", TNEF_MAGIC)[0].name == "winmail"
    error = refusal(read_xls, OLE_MAGIC + b"\0" * 2000)
    assert error.reason is Reason.UNREADABLE
    locked = compound({"EncryptedPackage": b"x"})
    assert refusal(read_xls, locked).reason is Reason.ENCRYPTED


def test_messages_of_outlook_are_read():
    """Red: ten years of mail, saved one by one, are refused."""
    data = compound(
        {
            "__properties_version1.0": bytes(32)
            + struct.pack("<HHIQHHIQ", 0x1F, 0x37, 6, 22, 0x1F, 0x1000, 6, 42),
            "__substg1.0_0037001F": "The bridge".encode("utf-16-le"),
            "__substg1.0_1000001F": "It costs 48 million.".encode("utf-16-le"),
        }
    )
    assert shown(read_msg(data)) == [
        ("part 1 (headers), line 1", "Subject: The bridge"),
        ("part 2 (text/plain), line 1", "It costs 48 million."),
    ]
    assert refusal(read_msg, data[:600]).reason is Reason.UNREADABLE


def message(subject, body, *attached, head=24):
    """The streams of a message; those of a file have a `head` of 32 bytes."""
    properties = [(0x37, len(subject) * 2 + 2), (0x1000, len(body) * 2 + 2)]
    packed = [struct.pack("<HHIQ", 0x1F, key, 6, size) for key, size in properties]
    return {
        "__properties_version1.0": bytes(head) + b"".join(packed),
        "__substg1.0_0037001F": subject.encode("utf-16-le"),
        "__substg1.0_1000001F": body.encode("utf-16-le"),
        **{f"__attach_version1.0_#{at:08X}": one for at, one in enumerate(attached)},
    }


def holds(inner):
    return {"__properties_version1.0": bytes(8), "__substg1.0_3701000D": inner}


def attached_file(name, content):
    entries = (0x1F, 0x3707, 6, len(name) * 2 + 2), (0x102, 0x3701, 6, len(content))
    return {
        "__properties_version1.0": bytes(8) + b"".join(struct.pack("<HHIQ", *e) for e in entries),
        "__substg1.0_3707001F": name.encode("utf-16-le"),
        "__substg1.0_37010102": content,
    }


def test_messages_in_messages_have_places_of_their_own(tmp_path):
    """Red: what was forwarded with a mail is left out, or read without an end."""
    deep = message("fifth", "5")
    for subject in ("fourth", "third"):
        deep = message(subject, "deep", holds(deep))
    note = attached_file("note.txt", b"A note.".ljust(4096))
    inner = message("The bridge / offer", "It costs 48 million.", note, holds(deep))
    (tmp_path / "a.msg").write_bytes(compound(message("Fwd", "See below.", holds(inner), head=32)))
    corpus = read_corpus([str(tmp_path)])
    found = {
        one.path.rpartition("a.msg")[2]: "\n".join(block.text for block in one.blocks)
        for one in corpus.documents
    }
    offer = "/The bridge offer.eml"
    assert found[offer] == "Subject: The bridge / offer\nIt costs 48 million."
    assert found[f"{offer}/note.txt"].startswith("A note.")
    assert found[f"{offer}/third.eml"].startswith("Subject: third")
    (left,) = (one for one in corpus.omissions if one.path.endswith("/fourth.eml/fifth.eml"))
    assert left.reason is Reason.TOO_DEEP


def attribute(key, value, level=1):
    return struct.pack("<BII", level, key, len(value)) + value + b"\0\0"


def properties(*entries):
    data = struct.pack("<I", len(entries))
    for key, kind, value in entries:
        padded = value + bytes(-len(value) % 4)
        data += struct.pack("<HHII", kind, key, 1, len(value)) + padded
    return data


WINMAIL = (
    TNEF_MAGIC
    + b"\x01\x00"
    + attribute(0x18004, b"Old subject\0")
    + attribute(
        0x69003,
        properties(
            (0x0037, 0x1F, "The bridge\0".encode("utf-16-le")),
            (0x1013, 0x102, b"<p>48 million</p>"),
        ),
    )
    + attribute(0x69002, b"\0" * 14, 2)
    + attribute(0x18010, b"PLAN~1.TXT\0", 2)
    + attribute(0x6800F, b"the plan", 2)
    + attribute(0x69005, properties((0x3707, 0x1F, "plan of 2019.txt\0".encode("utf-16-le"))), 2)
)


def test_what_is_in_a_winmail_is_read():
    """Red: winmail.dat is an unknown file, and the contract in it is never seen."""
    reading = read_winmail(WINMAIL)
    assert [block.text for block in reading.blocks] == ["Subject: The bridge", "48 million"]
    assert [(one.name, one.data) for one in reading.members] == [("plan of 2019.txt", b"the plan")]
    assert read_winmail(WINMAIL[:-20]).warnings == ("its end is missing",)


@settings(max_examples=10, deadline=None)
@given(st.integers(6, len(WINMAIL) - 1), st.integers(0, 255))
def test_a_damaged_winmail_breaks_nothing(at, byte):
    """Red: a wrong length reads beyond the file, or costs the whole message."""
    try:
        read_winmail(WINMAIL[:at] + bytes([byte]) + WINMAIL[at + 1 :])
    except ReadError as error:
        assert error.reason in {Reason.EMPTY, Reason.UNREADABLE}


@pytest.mark.parametrize("name", ["a.doc", "a.ppt"])
def test_what_is_still_not_read_says_what_helps(name):
    """Red: an old letter is skipped without a word."""
    with pytest.raises(ReadError, match=r"save it as"):
        choose(name, OLE_MAGIC + b"\0" * 100)


@pytest.mark.skipif(sys.platform == "win32", reason="the program is a shell script")
def test_an_old_letter_is_read_by_the_program_that_converts_it(tmp_path, monkeypatch):
    """Red: --convert reads nothing, starts a program for what it did not ask for, or leaves the
    letter in the folder for temporary files."""
    docx.Document().save(tmp_path / "made.docx")
    letter = docx.Document(tmp_path / "made.docx")
    letter.add_paragraph("The rent is 815 crowns.")
    letter.save(tmp_path / "made.docx")
    (tmp_path / "tmp").mkdir()
    program = tmp_path / "tmp" / "bin" / "soffice"  # where the sandbox lets programs be started
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\nwhile [ "$1" != --outdir ]; do shift; done\n'
        f"cp {tmp_path / 'tmp' / 'bin' / 'made.docx'} $2/given.docx\n"
    )
    program.chmod(0o700)
    (tmp_path / "made.docx").rename(program.with_name("made.docx"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    folder = write_files(
        tmp_path / "in",
        {"a.doc": compound({"WordDocument": b"old"}), "b.doc": OLE_MAGIC, "c.txt": "New."},
    )
    corpus = read_corpus([str(folder)], options=ReadOptions(convert=True, num_workers=1))
    old, new = corpus.documents
    assert (old.kind, old.blocks[0].text) == ("docx", "The rent is 815 crowns.")
    assert old.warnings == ("converted to .docx by LibreOffice",) and new.warnings == ()
    assert [(one.reason, "97-2003" in one.detail) for one in corpus.omissions] == [
        (Reason.UNSUPPORTED, True)
    ]
    assert [one.name for one in (tmp_path / "tmp").iterdir()] == ["bin"]
    program.unlink()
    monkeypatch.setenv("PATH", str(program.parent))
    with pytest.raises(UsageError, match="--convert needs LibreOffice"):
        next(
            outcomes(
                Sources([str(folder)]),
                Settings(convert=True, no_cache=True),
                make_sink("text", True),
            )
        )
