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

from mm1cli.ingest.containers import ContainerExpansion
from mm1cli.ingest.corpus import Document, Reason
from mm1cli.ingest.readers.archive import read_archive
from mm1cli.ingest.readers.reader import MAX_MEMBERS, ReadError
from mm1cli.ingest.sandbox import Sandbox


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
    assert [(one.name, one.data, one.damage) for one in reading.members] == [
        ("a.txt", b"x" * 600, ""),
        ("b.txt", b"y" * (3000 - 2048), "its end is missing"),
    ]
    assert reading.warnings == ("cannot be read to its end: unexpected end of data",)
    assert refusal(read_archive, b"neither").reason is Reason.UNREADABLE
    assert refusal(read_archive, packed({})).reason is Reason.EMPTY


def test_a_tar_that_stops_between_two_members_says_so():
    """Red: half of the files are gone, and nothing is said."""
    data = tarred(("a.txt", b"x" * 600), ("b.txt", b"y" * 600))
    for damaged in (data[:1536], data[:1536] + b"?" * 512 + data[2048:]):
        reading = read_archive(damaged)
        assert [member.name for member in reading.members] == ["a.txt"]
        assert reading.warnings == ("cannot be read to its end: its end is missing",)
    assert read_archive(data).warnings == ()


WORDS = "".join(f"line {number} of a log\n" for number in range(3000)).encode()


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_compressed_file_that_is_cut_gives_what_inflates(compress):
    """Red: all of a log is dropped because its last bytes are missing."""
    data = compress(WORDS * 40)
    (member,) = read_archive(data[: len(data) - 10]).members
    assert member.damage and (WORDS * 40).startswith(member.data)
    assert len(member.data) > len(WORDS) * 20
    assert refusal(read_archive, data[:12]).detail == "its end is missing"


def test_damage_inside_a_compressed_file_keeps_what_came_before():
    """Red: one wrong byte costs everything before it, or is not mentioned."""
    data = bytearray(gzip.compress(WORDS))
    data[len(data) // 2] ^= 0xFF
    (member,) = read_archive(bytes(data)).members
    same = next(at for at in range(len(WORDS)) if member.data[at : at + 1] != WORDS[at : at + 1])
    assert same > len(WORDS) // 4 and "damaged inside" in member.damage
    wrong_sum = bytearray(gzip.compress(b"short"))
    wrong_sum[-6] ^= 1
    (member,) = read_archive(bytes(wrong_sum)).members
    assert (member.data, member.damage) == (
        b"short",
        "damaged inside: Error -3 while decompressing data: incorrect data check",
    )


def test_a_compressed_file_of_several_streams_is_read_to_its_end():
    """Red: of files that were put together only the first one is read."""
    for compress in (gzip.compress, bz2.compress, lzma.compress):
        data = compress(b"one ") + compress(b"two ") * 300
        for padding in (b"", bytes(64)):
            (member,) = read_archive(data + padding).members
            assert (member.data, member.damage) == (b"one " + b"two " * 300, "")
    (member,) = read_archive(gzip.compress(b"one") + b"noise").members
    assert (member.data, member.damage) == (b"one", "other data follows its end")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_zip_without_its_end_is_read_member_by_member(method, is_streamed):
    """Red: a download that broke off is dropped whole, or its cut member passes for complete."""

    class Pipe(BytesIO):
        def seekable(self):
            return not is_streamed

    output = Pipe()
    with zipfile.ZipFile(output, "w", method) as archive:
        archive.mkdir("folder")
        archive.writestr("folder/a.txt", "one")
        archive.writestr("b.txt", WORDS)
    data = output.getvalue()
    whole = read_archive(data[: data.index(b"PK\x01\x02") + 9])
    assert [(one.name, one.data) for one in whole.members] == [
        ("folder/a.txt", b"one"),
        ("b.txt", WORDS),
    ]
    assert all(one.damage == "" for one in whole.members)
    assert "cannot be read to its end" in whole.warnings[0]
    cut = read_archive(data[: data.index(b"PK\x01\x02") * 3 // 4])
    assert cut.members[0].data == b"one" and cut.members[0].damage == ""
    assert cut.members[1].damage == "its end is missing" or is_streamed
    assert WORDS.startswith(cut.members[1].data) and len(cut.members[1].data) > len(WORDS) // 4
    assert "cannot be read to its end" in cut.warnings[0]


def test_the_list_of_an_inner_zip_is_not_that_of_a_cut_outer_one():
    """Red: of a cut archive only the zip at its end is read, and nothing is said."""
    output = BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        archive.writestr("a.txt", "one")
        archive.writestr("in.zip", packed({"inner.txt": "two"}))
        archive.writestr("z.txt", "three")
    data = output.getvalue()
    reading = read_archive(data[: data.rindex(b"z.txt", 0, data.rindex(b"in.zip")) - 30])
    assert [member.name for member in reading.members] == ["a.txt", "in.zip"]
    assert "the list of members is missing" in reading.warnings[0]
    program = b"#!/bin/sh\nexit\n" + packed({"a.txt": "one"})
    with pytest.raises(ReadError, match="neither zip nor tar"):
        read_archive(program)


def test_what_is_known_to_be_wrong_with_a_member_is_told_of_its_document():
    """Red: half a log is answered from as if it were all of it."""
    data = gzip.compress("Gr\u00fc\u00dfe \u6e2f".encode() * 90)
    cut = gzip.compress(b"")[:10] + data[10:-9]
    with Sandbox() as sandbox:
        box, log = ContainerExpansion(sandbox).expand("log.txt.gz", cut)
    assert isinstance(box, Document) and isinstance(log, Document)
    assert log.path == "log.txt.gz/log.txt" and "its end is missing" in log.warnings[0]
    assert log.encoding == "utf-8" and log.blocks[0].text.startswith("Gr\u00fc\u00dfe \u6e2f")


def test_too_many_members_are_named():
    """Red: a million empty files take hours, or the rest of them is dropped in silence."""
    reading = read_archive(tarred(*((f"{n}", b"") for n in range(MAX_MEMBERS + 1))))
    assert len(reading.members) == MAX_MEMBERS
    last = reading.members[-1]
    assert last.name == "what follows" and last.refusal.reason is Reason.TOO_LARGE
    assert last.refusal.detail == f"only the first {MAX_MEMBERS - 1} members are read"


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
        outcomes = list(ContainerExpansion(sandbox).expand("all.zip", data))
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
