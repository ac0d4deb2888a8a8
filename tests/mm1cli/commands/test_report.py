"""`--report` from the outside: when the page is written, and what it costs the run."""

import json
import re

from commandline import ASK, SHORT
from described import check_event, check_object

from mm1cli.output.text import safe


def test_the_page_holds_the_run_beside_every_format(mm1, llama, notes, tmp_path):
    """Red: a report changes what is on stdout, or tells of another run."""
    arguments = ("analyze", notes, "--ask", ASK, "--model", llama, *SHORT)
    bare = mm1(*arguments)
    page = tmp_path / "out.html"
    for extra in ((), ("--json",), ("--format", "jsonl")):
        ran = mm1(*arguments, *extra, "--report", page)
        assert ran.code == 0
        html = page.read_text(encoding="utf-8")
        assert ASK in html and "mm1 analyze</dd><dt>" in html.replace("\n", "")
        assert "notes/photo.png" in html and "notes/bridge.md" in html
        page.unlink()
        if not extra:
            assert ran.out == bare.out
            assert f"note: written: {page}\n" in ran.err
        elif extra == ("--json",):
            answer = ran.json["answer"]
            assert f"written: {page}" in ran.json["notes"]
            words = re.findall(r"[a-z]{4,}", safe(answer))
            assert all(word in html for word in words)


def test_questions_about_a_saved_context_have_a_page_too(mm1, llama, notes, tmp_path):
    saved, page = tmp_path / "notes.mm1ctx", tmp_path / "out.html"
    assert mm1("context", "build", notes, "-o", saved, "--model", llama).code == 0
    ran = mm1("ask", saved, ASK, "what is the hat?", *SHORT, "--report", page)
    assert ran.code == 0
    html = page.read_text(encoding="utf-8")
    assert "2 questions about 3 documents" in html and "In its surroundings" in html


def test_a_table_has_a_page_with_its_passages_and_the_map(mm1, llama, notes, tmp_path):
    """Red: the footnotes of a table open nothing."""
    page = tmp_path / "out.html"
    ran = mm1("analyze", notes, "--template", "timeline", "--model", llama, "--report", page)
    assert ran.code == 0
    html = page.read_text(encoding="utf-8")
    assert 'id="map"' in html and "The text around it is not at hand." not in html


def test_a_page_that_cannot_be_written_stops_the_run_before_it_reads(mm1, notes, tmp_path):
    """Red: an hour of reading, then `permission denied`."""
    other = tmp_path / "thesis.html"
    other.write_text("years of work")
    for path, words in (
        (tmp_path, "is a folder"),
        ("/proc/out.html", "cannot be written"),
        (other, "mm1 did not write"),
    ):
        ran = mm1("analyze", notes, "--ask", ASK, "--model", "no such", "--report", path, "--json")
        assert ran.code == 2 and words in ran.json["error"]["message"]
    assert other.read_text() == "years of work"
    ran = mm1("analyze", notes, "--dry-run", "--report", tmp_path / "out.html")
    assert ran.code == 2 and "--dry-run gives none" in ran.err
    ran = mm1("analyze", notes, "--ask", ASK, "--model", "no such", "--report", tmp_path / "x.html")
    assert ran.code == 7 and not (tmp_path / "x.html").exists(), "no answer, no page"


def test_an_error_after_the_answer_is_on_the_page(mm1, llama, notes, tmp_path):
    page = tmp_path / "out.html"
    ran = mm1(
        "analyze", notes, "--ask", ASK, "--model", llama, *SHORT, "--strict", "--report", page
    )
    assert ran.code == 5
    assert "The run ended with an error.</strong> --strict" in page.read_text(encoding="utf-8")


def test_a_page_that_fails_at_the_end_loses_no_answer(mm1, llama, notes, tmp_path, monkeypatch):
    """Red: the disk is full, and the answer on stdout is gone with the page."""

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.durable.os.fsync", fail)
    page = tmp_path / "out.html"
    arguments = ("analyze", notes, "--ask", ASK, "--model", llama, *SHORT, "--no-cache")
    ran = mm1(*arguments, "--report", page, "--json")
    assert ran.code == 1 and ran.json["answer"]
    assert "No space left on device" in ran.json["error"]["message"]
    assert list(tmp_path.glob("*.html")) == [] and list(tmp_path.glob(".out*")) == []


def test_json_is_as_described(mm1, llama, notes):
    """Red: docs/output.schema.json is not what a real run writes."""
    arguments = (notes, "--model", llama, "--ask", ASK, *SHORT)
    check_object(mm1("analyze", *arguments, "--json").json)
    focus = mm1("analyze", *arguments, "--json", "--context-tokens", 1500).json
    check_object(focus)
    check_object(mm1("tokens", notes, "--model", llama, "--json").json)
    check_object(mm1("analyze", "missing", "--ask", ASK, "--json").json)
    for line in mm1("analyze", *arguments, "--format", "jsonl").out.splitlines():
        check_event(json.loads(line))
