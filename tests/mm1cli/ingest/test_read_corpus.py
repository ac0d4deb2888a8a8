import hashlib
import os
import subprocess
import sys
from io import BytesIO

import pytest

from mm1cli.errors import InputError
from mm1cli.ingest import Block, Corpus, Reason, read_corpus
from mm1cli.ingest import read as read_module
from mm1cli.ingest.read import ReadOptions, read_files


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class Closed(BytesIO):
    def read(self, *_):
        raise AssertionError("stdin was read")


def test_every_file_is_a_document_or_an_omission(tree, make_pdf):
    """Red: files vanish between the folder and the manifest."""
    root = tree({"a.md": "# Title\r\ntext", "b.py": "x = 1\n", "empty.txt": " \n", ".hidden": "x"})
    (root / "c.pdf").write_bytes(make_pdf("page one"))
    (root / "blank.pdf").write_bytes(make_pdf(""))
    (root / "broken.docx").write_bytes(b"PK\x03\x04 broken")
    (root / "zero.pdf").touch()
    (root / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0")
    (root / "machine").write_bytes(b"\x7fELF\0\0")
    os.mkfifo(root / "pipe")
    calls = []
    corpus = read_corpus(["."], on_progress=lambda done, total: calls.append((done, total)))
    assert [(each.path, each.kind) for each in corpus.documents] == [
        ("a.md", "markdown"),
        ("b.py", "python"),
        ("c.pdf", "pdf"),
    ]
    assert {each.path: each.reason for each in corpus.omissions} == {
        ".hidden": Reason.HIDDEN,
        "blank.pdf": Reason.NO_TEXT,
        "broken.docx": Reason.UNREADABLE,
        "empty.txt": Reason.EMPTY,
        "machine": Reason.BINARY,
        "photo.png": Reason.UNSUPPORTED,
        "pipe": Reason.NOT_A_FILE,
        "zero.pdf": Reason.EMPTY,
    }
    assert calls == [(done, 9) for done in range(10)]


def test_a_document_tells_what_was_read(tree):
    """Red: the manifest's hash is not that of the file, or line 2 is not line 2."""
    content = b"\xef\xbb\xbfone\r\ntwo\r\n"
    (tree({}) / "a.txt").write_bytes(content)
    (document,) = read_corpus(["a.txt"]).documents
    assert document.sha256 == hashlib.sha256(content).hexdigest()
    assert document.num_bytes == len(content)
    assert document.reader == "text 3"
    assert document.blocks == (Block("one\ntwo\n", source=((0, 0), (4, 5), (8, 10))),)
    assert str(document.blocks[0].locate(4, 7)) == "line 2"


def test_stdin_is_read_only_when_named(tree):
    """Red: the program waits for input nobody gives."""
    tree({"a.txt": "a"})
    assert len(read_corpus(["a.txt"], stdin=Closed()).documents) == 1
    corpus = read_corpus(["-", "a.txt"], stdin=BytesIO(b"from a pipe\n"))
    assert [each.path for each in corpus.documents] == ["stdin", "a.txt"]
    assert corpus.documents[0].blocks == (Block("from a pipe\n", source=((0, 0),)),)
    (omission,) = read_corpus(["-"], stdin=BytesIO()).omissions
    assert (omission.path, omission.reason) == ("stdin", Reason.EMPTY)
    with pytest.raises(InputError):
        read_corpus(["-"])


def test_a_pdf_on_stdin_is_read_as_one(make_pdf):
    """Red: `curl ... | mm1 analyze -` fills the context with compressed data."""
    (document,) = read_corpus(["-"], stdin=BytesIO(make_pdf("piped"))).documents
    assert (document.kind, document.blocks[0].text) == ("pdf", "piped")


def test_a_missing_path_stops_the_run_before_any_reading(tree):
    """Red: a typing error costs an hour of reading first."""
    tree({"a.txt": "a"})
    with pytest.raises(InputError, match=r"mising\.txt: no such file"):
        read_corpus(["-", "a.txt", "mising.txt"], stdin=Closed())


def test_nothing_to_read_is_an_empty_corpus():
    """Red: the caller cannot say what was left out."""
    calls = []
    assert read_corpus(["."], on_progress=lambda *call: calls.append(call)) == Corpus(())
    assert calls == []


def test_a_file_over_the_cap_is_not_read(tree, monkeypatch):
    """Red: a log of 40 GB fills the memory."""
    root = tree({})
    with (root / "huge.txt").open("wb") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    (omission,) = read_corpus(["."]).omissions
    assert (omission.reason, omission.detail) == (Reason.TOO_LARGE, "more than 64 MiB")
    assert omission.num_bytes == 64 * 1024 * 1024 + 1


def test_a_file_that_became_a_pipe_does_not_hang(tree, monkeypatch):
    """Red: a folder that changes under the run stops it for ever."""
    root = tree({"a.txt": "a"})
    real_walk = read_module.walk

    def walk_then_swap(*arguments):
        results = real_walk(*arguments)
        (root / "a.txt").unlink()
        os.mkfifo(root / "a.txt")
        return results

    monkeypatch.setattr(read_module, "walk", walk_then_swap)
    (omission,) = read_corpus(["."]).omissions
    assert omission.reason is Reason.NOT_A_FILE


def test_a_file_that_may_not_be_opened_is_an_omission(tree, monkeypatch):
    """Red: one file without permission ends the run."""
    tree({"a.txt": "a", "b.txt": "b"})
    real_open = os.open

    def refuse(path, *rest):
        if str(path).endswith("a.txt"):
            raise PermissionError(13, "Permission denied")
        return real_open(path, *rest)

    monkeypatch.setattr(os, "open", refuse)
    corpus = read_corpus(["."])
    assert [each.path for each in corpus.documents] == ["b.txt"]
    assert [(each.reason, each.detail) for each in corpus.omissions] == [
        (Reason.UNREADABLE, "Permission denied")
    ]


def test_importing_ingest_loads_no_parser():
    """Red: `mm1 --help` takes a second."""
    program = "import sys, mm1cli.ingest; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    modules = answer.stdout.split()
    assert not {"torch", "numpy", "pypdf", "docx", "lxml"} & set(modules)


def test_several_readers_give_what_one_gives_in_the_same_order(tree, make_pdf):
    """Red: the same folder gives another context on a machine with more cores."""
    root = tree({f"{number}.md": f"# {number}" for number in range(0, 40, 2)})
    for number in range(1, 10, 2):
        (root / f"{number}.pdf").write_bytes(make_pdf(f"page {number}"))
    one, three = (read_corpus(["."], options=ReadOptions(num_workers=n)) for n in (1, 3))
    assert one == three
    assert len(one.documents) == 25
    assert [each.path for each in one.documents] == sorted(each.path for each in one.documents)


def test_reading_stops_when_nobody_takes_more(tree, make_pdf):
    """Red: an error while tokenising waits until every file is read."""
    root = tree({f"{number}.md": "x" for number in range(200)})
    (root / "0.pdf").write_bytes(make_pdf("first"))
    calls = []
    reading = read_files(["."], on_progress=lambda done, total: calls.append(done))
    next(reading)
    reading.close()
    assert calls[-1] < 200
