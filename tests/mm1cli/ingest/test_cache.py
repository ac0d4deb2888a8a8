import json
from dataclasses import replace

import pytest
from corpora import blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import authentic
from mm1cli.ingest import Block, read_corpus
from mm1cli.ingest.cache import Cache
from mm1cli.ingest.read import ReadOptions
from mm1cli.ingest.readers.pdf import PDF
from mm1cli.ingest.readers.reader import ReadError, Reading
from mm1cli.ingest.sandbox import Sandbox
from mm1cli.ingest.wire_format import reading_from, reply_of

HASH = "ab" * 32
READING = Reading((Block("text", source=((0, 0),)),), ("odd",), "pypdf 0")


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr("mm1cli.ingest.cache._is_current", lambda library: True)
    return Cache(tmp_path / "cache")


@given(st.lists(blocks, max_size=4))
def test_a_reading_survives_the_exchange(parts):
    """Red: the sandbox or the cache changes what was read."""
    usable = [part for part in parts if not set("\0\r") & set(part.text)]
    reading = Reading(tuple(usable), ("one", "two"), "pypdf 7", "utf-8")
    message, data = reply_of(reading)
    assert (reading_from(json.loads(json.dumps(message))), data) == (reading, b"")


def test_an_entry_is_for_one_file_reader_and_version(kept):
    """Red: text of another file, or of a reader with a known fault, is used."""
    assert kept.get(HASH, PDF) is None
    kept.put(HASH, PDF, READING, "a.pdf")
    assert kept.get(HASH, PDF) == READING
    assert kept.get("cd" * 32, PDF) is None
    assert kept.get(HASH, replace(PDF, version=PDF.version + 1)) is None
    assert kept.get(HASH, replace(PDF, name="pypdf")) is None


def test_an_entry_of_another_library_version_is_not_used(tmp_path, kept, monkeypatch):
    """Red: an upgrade that reads more changes nothing for files that were read before."""
    kept.put(HASH, PDF, READING, "a.pdf")
    monkeypatch.undo()
    assert kept.get(HASH, PDF) is None


def spoilt(entry, path, value):
    entry = json.loads(json.dumps(entry))
    target = entry
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    return entry


def sign(file, content):
    """As only who has the user's key can."""
    told = authentic.hexdigest(f"extracted text {file.name}", content)
    file.write_bytes(told.encode() + content)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(
        [
            ("format",), ("sha256",), ("blocks",), ("warnings",), ("library",), ("members",),
            ("blocks", 0), ("blocks", 0, "text"), ("blocks", 0, "unit"), ("blocks", 0, "first"),
            ("blocks", 0, "place"), ("blocks", 0, "source"), ("blocks", 0, "columns"),
        ]
    ),
    st.sampled_from(
        ["x\0", "\ud800", 1e99, -1, None, [], {}, [[0, 0], [0, 0]], [[9, 9]], "x" * 99, [[1]], True]
    ),
)  # fmt: skip
def test_an_entry_that_someone_else_wrote_is_checked(tmp_path_factory, path, value):
    """Red: a file in the cache brings NULs, wrong types or offsets outside the text."""
    cache = Cache(tmp_path_factory.mktemp("cache"))
    reading = replace(READING, library="")
    cache.put(HASH, PDF, reading, "a.pdf")
    (file,) = cache.folder.glob("*/*.json")
    name, entry = file.read_text()[authentic.DIGITS :].split("\n")
    sign(file, f"{name}\n{json.dumps(spoilt(json.loads(entry), path, value))}".encode())
    got = cache.get(HASH, PDF)
    if got is not None:
        for block in got.blocks:
            block.text.encode()
            assert "\0" not in block.text and isinstance(block.first, int)
            assert block.source_offset(len(block.text)) is None or block.source[0][0] == 0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_an_entry_that_is_damaged_is_none(kept, content):
    """Red: a full disk, or a crash while writing, ends every later run."""
    kept.put(HASH, PDF, READING, "a.pdf")
    (file,) = kept.folder.glob("*/*.json")
    for head in (b"", b"\n", b'"a.pdf"\n'):
        sign(file, head + content)
        assert kept.get(HASH, PDF) is None
        assert {one.document for one in kept.entries()} <= {"", "a.pdf", "text"}


@pytest.mark.parametrize("plant", ["no key", "everybody's key", "another document's", "a byte"])
def test_an_entry_that_is_planted_is_not_read(kept, tree, make_pdf, plant):
    """Red: "1 April 1999" is quoted from a document that says 21 September 2017."""
    root = tree({})
    document = root / "a.pdf"
    document.write_bytes(make_pdf("signed on 21 September 2017"))
    options = ReadOptions(cache=kept)
    read_corpus([str(document)], options=options)
    (file,) = kept.folder.glob("*/*.json")
    content = file.read_bytes()[authentic.DIGITS :].replace(b"21 September 2017", b"1 April 1999")
    if plant == "no key":
        file.write_bytes(content)
    elif plant == "everybody's key":
        with authentic.without_key():
            sign(file, content)
    elif plant == "another document's":
        other = root / "b.pdf"
        other.write_bytes(make_pdf("signed on 1 April 1999"))
        read_corpus([str(other)], options=options)
        (theirs,) = set(kept.folder.glob("*/*.json")) - {file}
        file.write_bytes(theirs.read_bytes())
    else:
        file.write_bytes(file.read_bytes().replace(b"2017", b"1999"))
    (read,) = read_corpus([str(document)], options=options).documents
    assert "21 September 2017" in "".join(block.text for block in read.blocks)


def test_the_oldest_entries_go_first(kept):
    """Red: the cache grows without end, or forgets what is used every day."""
    import os

    for number in range(10):
        kept.put(f"{number:02d}" * 32, PDF, READING, "a.pdf")
    files = sorted(kept.folder.glob("*/*.json"))
    for age, file in enumerate(files):
        os.utime(file, (1000 + age, 1000 + age))
    kept.get("00" * 32, PDF)
    size = files[0].stat().st_size
    replace(kept, max_bytes=5 * size).prune()
    left = [file.name[:2] for file in sorted(kept.folder.glob("*/*.json"))]
    assert left == ["00", "07", "08", "09"]


@pytest.mark.parametrize("link", ["cache", "cache/ab", None])
def test_files_of_others_stay(kept, tmp_path, link):
    """Red: the mm1.toml of a folder that is only read says which files are deleted."""
    kept.put(HASH, PDF, READING, "a.pdf")
    if link is not None:
        (tmp_path / link).rename(tmp_path / "elsewhere")
        (tmp_path / link).symlink_to(tmp_path / "elsewhere")
    for name in ("ab/notes.txt", "docs/notes.txt", "docs/tmp.part", f"docs/{HASH}-pdf-1.json"):
        path = kept.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    replace(kept, max_bytes=0).prune()
    assert len(list(kept.folder.glob("*/*"))) == 4 + (link is not None)


def test_a_second_run_starts_no_child(tree, make_pdf, tmp_path, monkeypatch):
    """Red: every run pays for every PDF."""
    root = tree({})
    (root / "docs").mkdir()
    (root / "docs/a.pdf").write_bytes(make_pdf("kept"))
    options = ReadOptions(cache=Cache(root / "cache"))
    first = read_corpus([str(root / "docs")], options=options)

    def refuse(*_, **__):
        raise ReadError("not again")

    monkeypatch.setattr(Sandbox, "read", refuse)
    assert read_corpus([str(root / "docs")], options=options) == first


def test_a_cache_that_cannot_be_written_is_no_error(tree, make_pdf):
    """Red: a full disk or a read-only home stops the run."""
    root = tree({"file": ""})
    (root / "a.pdf").write_bytes(make_pdf("read"))
    options = ReadOptions(cache=Cache(root / "file" / "cache"))
    assert len(read_corpus([str(root / "a.pdf")], options=options).documents) == 1
