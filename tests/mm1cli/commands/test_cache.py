"""Red here means others can read what is kept of documents, or nobody can find and wipe it."""

import os
import stat
from pathlib import Path

import pytest
from commandline import ASK, SHORT

from mm1cli.ingest.cache import Cache


@pytest.fixture
def kept(mm1, llama, notes, monkeypatch, tmp_path, make_pdf):
    """The cache folder, after a run with an umask that forbids nothing."""
    monkeypatch.setattr("mm1cli.answering.context_source.FEWEST_SAVED_TOKENS", 1)
    monkeypatch.setenv("MM1_CACHE_DIR", str(tmp_path / "kept"))
    (notes / "paper.pdf").write_bytes(make_pdf("The rat is here."))
    old = os.umask(0)
    try:
        ran = mm1("analyze", notes, "--ask", ASK, "--model", llama, *SHORT)
        built = mm1("context", "build", notes, "-o", tmp_path / "built", "--model", llama)
    finally:
        os.umask(old)
    assert (ran.code, built.code) == (0, 0), ran.err + built.err
    return tmp_path / "kept"


@pytest.mark.skipif(os.name == "nt", reason="modes of files")
def test_what_is_kept_is_the_owners_alone(kept):
    for root in (kept, kept.parent / "built"):
        for path in (root, *root.rglob("*")):
            mode = stat.S_IMODE(path.stat().st_mode)
            if path.is_dir():
                assert mode == 0o700, path
            elif path.name not in {"lock", "used"}:  # which are empty
                assert mode == 0o600, path


def test_what_is_kept_is_named_and_wiped(mm1, kept, notes):
    shown = mm1("cache", "show")
    assert shown.code == 0, shown.err
    text, contexts = (
        next(line for line in shown.out.splitlines() if line.endswith(end))
        for end in (f"{notes.absolute()}: paper.pdf", "notes/sub/hat.txt, notes/tool.py")
    )
    assert " MB  20" in text and str(Path.cwd()) in contexts
    listed = mm1("context", "list").out
    assert f"{Path.cwd()}: notes/bridge.md" in listed
    told = mm1("cache", "show", "--json").json
    assert {row["kind"] for row in told["kept"]} == {"text", "contexts"}
    assert (
        mm1("cache", "clear").code == mm1("cache", "clear", "--all", "--older-than", "1").code == 2
    )
    assert mm1("cache", "clear", "--all", "--older-than", "1d").out.startswith("removed 0.0 MB")
    assert mm1("cache", "show", "--json").json == told
    mine = kept / "text" / "mine.txt"
    mine.touch()
    assert mm1("cache", "clear", "--all").code == 0
    assert mm1("cache", "show", "--json").json["kept"] == []
    assert [path for path in kept.rglob("*") if path.is_file()] == [mine]


def test_text_with_a_secret_in_it_is_not_kept(tmp_path, make_pdf, mm1, llama, monkeypatch):
    """Red: a key is left out of the answer, and lies in a cache."""
    monkeypatch.setenv("MM1_CACHE_DIR", str(tmp_path / "kept"))
    (tmp_path / "a.pdf").write_bytes(make_pdf("AKIAIOSFODNN7ABCDEFG"))
    mm1("tokens", tmp_path / "a.pdf", "--model", llama)
    assert list(Cache(tmp_path / "kept" / "text").entries()) == []
