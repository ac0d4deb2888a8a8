"""Red here means markup, menus or other people's files get into the training text."""

import gzip
import json
import lzma
import shutil
import subprocess

import pytest

from training import debian
from training.samples import samples_of

PAGE = """<!DOCTYPE html><html><head><title>no</title><style>p {}</style></head><body>
<nav><a href="x">menu</a></nav><div role="navigation"><div>crumbs</div><p>next</p></div>
<h1>The &quot;title&quot;</h1><p>One   sentence
over lines &amp; <b>bold</b>.</p><script>if (a < b) {}</script>
<pre>def f():
    return 1</pre><ul><li>first</li><li>second</li></ul></body></html>"""
WORDS = "A sentence of some length about nothing in particular. " * 10


@pytest.fixture
def package(tmp_path):
    """An unpacked package."""
    folder = tmp_path / "tiny-doc"
    doc = folder / "usr/share/doc/tiny-doc"
    (doc / "html").mkdir(parents=True)
    (doc / "copyright").write_text("Files: *\nLicense: MIT\n text\n\nFiles: x\nLicense: BSD-3\n")
    (doc / "html/a.html").write_text(PAGE.replace("<ul>", f"<p>{WORDS}</p><ul>"))
    (doc / "html/again.html").write_text(PAGE.replace("<ul>", f"<p>{WORDS}</p><ul>"))
    (doc / "html/short.html").write_text(PAGE)
    (doc / "html/a.txt").write_text("as HTML too " * 90)
    (doc / "guide.txt.gz").write_bytes(gzip.compress((WORDS * 2).encode()))
    (doc / "latin.txt").write_bytes(("é" * 900).encode("latin-1"))
    (doc / "logo.png").write_bytes(b"x" * 900)
    (doc / "link.txt").symlink_to("/etc/services")
    (folder / "DEBIAN").mkdir()
    (folder / "DEBIAN/control").write_text(
        "Package: tiny-doc\nVersion: 1\nArchitecture: all\n"
        "Maintainer: T <t@example.org>\nDescription: tiny\n"
    )
    return folder


def test_a_page_is_read_without_its_markup_and_menus():
    lines = debian.prose(PAGE).splitlines()
    assert [line for line in lines if line.strip()] == [
        'The "title"',
        "One sentence over lines & bold.",
        "def f():",
        "    return 1",
        "first",
        "second",
    ]


def test_each_text_is_one_record_with_source_and_licence(package):
    found = list(debian.records(package, "tiny-doc", set()))
    doc = "usr/share/doc/tiny-doc"
    sources = [record["source"] for record in found]
    assert sources == [f"tiny-doc:{doc}/guide.txt.gz", f"tiny-doc:{doc}/html/a.html"]
    assert {record["licence"] for record in found} == {"BSD-3, MIT"}
    assert {record["copyright"] for record in found} == {f"{doc}/copyright"}
    assert all(samples_of(record, 0) for record in found)


def test_lines_that_most_pages_share_are_no_prose(tmp_path):
    for n in range(20):
        words = f"Page {n} says this. " * 30
        (tmp_path / f"{n}.html").write_text(f"<p>Home</p><p>{words}</p><p>Made by T.</p>")
    (tmp_path / "copyright").write_text("none")
    found = debian.records(tmp_path, "tiny-doc", set())
    assert len(found) == 20
    assert all(set(record["text"].split()) >= {"Page", "says"} for record in found)
    assert not any("Home" in r["text"] or "Made by" in r["text"] for r in found)
    assert found[0]["licence"] == "see copyright"


def test_texts_of_another_package_are_not_read_twice(package):
    seen = set()
    assert len(list(debian.records(package, "tiny-doc", seen))) == 2
    assert not list(debian.records(package, "twin-doc", seen))


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb here")
def test_a_package_is_unpacked_and_written(package, tmp_path, capsys):
    built = tmp_path / "tiny.deb"
    subprocess.run(["dpkg-deb", "--build", package, built], check=True, capture_output=True)
    folder = debian.unpack(built, tmp_path / "out" / "tiny-doc")
    out = tmp_path / "records.jsonl.xz"
    debian.command(["--folder", str(folder), "--out", str(out)])
    with lzma.open(out, "rt") as file:
        rows = [json.loads(line) for line in file]
    assert [row["text"][:10] for row in rows] == ["A sentence", 'The "title']
    assert "2 files" in capsys.readouterr().err


def test_a_package_that_cannot_be_had_is_one_line(tmp_path, monkeypatch, capsys):
    def failing(*_, **__):
        return subprocess.CompletedProcess([], 100, "", "W: x\nE: Unable to locate package none")

    monkeypatch.setattr(subprocess, "run", failing)
    with pytest.raises(SystemExit) as ended:
        debian.command(["--packages", "none", "--out", str(tmp_path / "x.jsonl.xz")])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert message.endswith("apt-get: E: Unable to locate package none\n")
    assert not (tmp_path / "x.jsonl.xz").exists()
