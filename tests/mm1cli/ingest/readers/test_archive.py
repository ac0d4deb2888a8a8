import bz2
import gzip
import lzma
import stat
import tarfile
import zipfile
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from office import packed, refusal

from mm1cli.ingest.corpus import Document, Reason
from mm1cli.ingest.readers.archive import read_archive
from mm1cli.ingest.readers.reader import MAX_MEMBERS
from mm1cli.ingest.sandbox import Sandbox
from mm1cli.ingest.unfold import Unfolding


def members(data):
    return [
        (member.name, member.refusal.reason if member.refusal else member.data)
        for member in read_archive(data).members
    ]


def tarred(*entries, mode="w"):
    """A tar of (name, data) pairs or of `TarInfo`s without data."""
    output = BytesIO()
    with tarfile.open(fileobj=output, mode=mode) as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
                continue
            info = tarfile.TarInfo(entry[0])
            info.size = len(entry[1])
            archive.addfile(info, BytesIO(entry[1]))
    return output.getvalue()


def of_type(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


FILES = {"a/b.txt": b"one", "c.md": b"two"}
MODES = ("w", "w:gz", "w:bz2", "w:xz")
ARCHIVES = [packed(FILES), *(tarred(*FILES.items(), mode=mode) for mode in MODES)]


@pytest.mark.parametrize(
    "data",
    [
        packed(FILES),
        *(tarred(*FILES.items(), mode=f"w{how}") for how in ("", ":gz", ":bz2", ":xz")),
    ],
)
def test_members_are_given_in_their_order(data):
    """Red: a folder that someone packed is lost."""
    assert members(data) == list(FILES.items())


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_single_compressed_file_is_one_member(compress):
    """Red: a log that was rotated is called an archive without members."""
    assert members(compress(b"a log")) == [("", b"a log")]


def test_names_are_given_as_they_are():
    """Red: two files of one name are one, or a name with a newline ends the listing."""
    output = BytesIO()
    with zipfile.ZipFile(output, "w") as archive, pytest.warns(UserWarning):
        for name in ("a.txt", "a.txt", "/etc/passwd", "../../up.txt", "two\nlines.txt", "ä.txt"):
            archive.writestr(name, "x")
        archive.mkdir("folder")
    assert [name for name, _ in members(output.getvalue())] == [
        "a.txt",
        "a.txt (2)",
        "/etc/passwd",
        "../../up.txt",
        "two\nlines.txt",
        "ä.txt",
    ]


def test_utf8_names_without_the_flag_and_broken_ones_are_read():
    """Red: names from other systems are noise, or an error."""
    data = packed({"XXXX.txt": "x"})
    assert members(data.replace(b"XXXX.txt", "ää.txt".encode()))[0][0] == "ää.txt"
    assert members(data.replace(b"XXXX.txt", b"\xff\xfe\xfd\xfc.txt"))[0][1] == b"x"
    name = b"\xff\xfe.txt".decode("utf-8", "surrogateescape")
    broken = tarred((name, b"x"))
    assert members(broken) == [(name, b"x")]


def test_links_and_devices_are_refused():
    """Red: an archive reads files of the machine, or waits for a pipe."""
    data = tarred(
        ("a.txt", b"x"),
        of_type("soft", tarfile.SYMTYPE, "/etc/passwd"),
        of_type("hard", tarfile.LNKTYPE, "a.txt"),
        of_type("pipe", tarfile.FIFOTYPE),
        of_type("null", tarfile.CHRTYPE),
    )
    assert members(data) == [
        ("a.txt", b"x"),
        *((name, Reason.NOT_A_FILE) for name in ("soft", "hard", "pipe", "null")),
    ]
    output = BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    assert members(output.getvalue()) == [("link", Reason.NOT_A_FILE)]


def test_each_member_has_its_own_reason():
    """Red: one locked or damaged member takes the others with it."""
    data = bytearray(packed({"good.txt": "fine", "bad.txt": "y" * 100, "locked.txt": "z"}))
    for name, change in (("locked.txt", "flag"), ("bad.txt", "content")):
        header = data.index(name.encode()) - 30
        directory = data.rindex(name.encode()) - 46
        if change == "flag":
            data[header + 6] |= 1
            data[directory + 8] |= 1
        else:
            data[header + 30 + len(name)] ^= 0xFF
    assert members(bytes(data)) == [
        ("good.txt", b"fine"),
        ("bad.txt", Reason.UNREADABLE),
        ("locked.txt", Reason.ENCRYPTED),
    ]
    output = BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        archive.writestr("x.txt", "x")
    unknown = bytearray(output.getvalue())
    unknown[8] = unknown[unknown.rindex(b"x.txt") - 46 + 10] = 9
    assert members(bytes(unknown)) == [("x.txt", Reason.UNSUPPORTED)]


def test_bombs_are_stopped_while_they_inflate():
    """Red: 40 KB of file take gigabytes of memory, on the second layer too."""
    zeros = bytes(40 << 20)
    bomb = packed({"small.txt": "x", "bomb.txt": zeros, "after.txt": "y"})
    assert len(bomb) < 100_000
    assert members(bomb) == [
        ("small.txt", b"x"),
        ("bomb.txt", Reason.TOO_LARGE),
        ("after.txt", Reason.TOO_LARGE),
    ]
    assert refusal(read_archive, gzip.compress(zeros)).reason is Reason.TOO_LARGE


def test_a_tar_of_holes_is_stopped():
    """Red: a sparse file of a terabyte is read byte by byte."""
    info = tarfile.TarInfo("holes")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    size = b"%011o\0" % (1 << 32)
    header[483:495] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    assert members(bytes(header) + bytes(1024)) == [("holes", Reason.TOO_LARGE)]


def test_archives_that_are_cut_off_give_what_came_before():
    """Red: a download that broke off is dropped whole, or passes for complete."""
    data = tarred(("a.txt", b"x" * 600), ("b.txt", b"y" * 6000))
    reading = read_archive(data[:3000])
    assert reading.members[0].data == b"x" * 600
    assert "b.txt" not in [member.name for member in reading.members] or reading.members[1].refusal
    assert reading.warnings and "cannot be read to its end" in reading.warnings[0]
    zipped = packed(FILES)
    assert refusal(read_archive, zipped[:-30]).reason is Reason.UNREADABLE
    assert refusal(read_archive, gzip.compress(b"x" * 100)[:-10]).reason is Reason.UNREADABLE
    assert refusal(read_archive, b"neither").reason is Reason.UNREADABLE
    assert refusal(read_archive, packed({})).reason is Reason.EMPTY


def test_too_many_members_are_named():
    """Red: a million empty files take hours, or the rest of them is dropped in silence."""
    reading = read_archive(tarred(*((f"{n}", b"") for n in range(MAX_MEMBERS + 1))))
    assert len(reading.members) == MAX_MEMBERS
    assert reading.warnings == (f"only the first {MAX_MEMBERS} members are read",)


@settings(max_examples=25, deadline=None)
@given(
    st.binary(max_size=40),
    st.integers(0, 400),
    st.sampled_from([packed(FILES), tarred(*FILES.items())]),
)
def test_no_archive_breaks_the_reader(noise, at, data):
    """Red: a damaged archive is a crash."""
    damaged = data[:at] + noise + data[at + len(noise) :]
    try:
        read_archive(damaged)
    except Exception as error:
        assert getattr(error, "reason", None) in set(Reason), error


def test_archives_in_archives_add_up():
    """Red: what lies in an inner archive is lost, or nesting has no end."""
    inner = packed({"deep.txt": "deep text"})
    data = packed(
        {"in.zip": inner, "log.gz": gzip.compress(b"a log"), "x.7z": b"7z\xbc\xaf\x27\x1c"}
    )
    for _ in range(3):
        inner = packed({"n.zip": inner})
    data = packed(
        {
            "in.zip": packed({"deep.txt": "deep text"}),
            "log.txt.gz": gzip.compress(b"a log"),
            "x.7z": b"7z\xbc\xaf\x27\x1c",
            "far.zip": inner,
        }
    )
    with Sandbox() as sandbox:
        outcomes = list(Unfolding(sandbox).unfold("all.zip", data))
    texts = {
        outcome.path: outcome.blocks[0].text
        for outcome in outcomes
        if isinstance(outcome, Document) and outcome.blocks
    }
    assert texts == {"all.zip/in.zip/deep.txt": "deep text", "all.zip/log.txt.gz/log.txt": "a log"}
    left = {
        outcome.path: outcome.reason for outcome in outcomes if not isinstance(outcome, Document)
    }
    assert left == {
        "all.zip/x.7z": Reason.UNSUPPORTED,
        "all.zip/far.zip/n.zip/n.zip/n.zip": Reason.TOO_DEEP,
    }
