"""The report in a real browser: nothing runs, nothing overflows, footnotes open, paper has all."""

import html
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing

import pypdfium2
import pytest
import sample_review
import sample_run
from sample_run import hostile_run

from mm1cli.output.page import render

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

HACK = "<script>document.documentElement.dataset.hacked=1</script>"
WIDTHS = (390, 1280)
# Reports a frame's own width, what its page takes, and whether anything ran in it.
PROBE = """<script>addEventListener("load", () => {
  const root = document.documentElement;
  document.querySelectorAll("details").forEach(one => one.open = true);
  parent.document.documentElement.dataset["w" + innerWidth] =
    root.scrollWidth + (root.dataset.hacked ? " hacked" : "");
})</script>"""

Chromium = Callable[..., str]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory) -> Chromium:
    profile = tmp_path_factory.mktemp("profile")

    def run(*arguments: str) -> str:
        command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu"]
        command += [f"--user-data-dir={profile}", "--virtual-time-budget=4000", *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return ran.stdout

    return run


def framed(page: str) -> str:
    """The page without its policy, in a frame of each width, with a probe in it."""
    page, count = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    assert count == 1
    source = html.escape(page.replace("</body>", f"{PROBE}</body>"))
    frames = (f'<iframe style="width:{width}px" srcdoc="{source}"></iframe>' for width in WIDTHS)
    return f"<!doctype html><html><body>{''.join(frames)}</body></html>"


RUNS = {
    "sample": lambda: sample_run.collected(
        sample_run.ANSWER, sample_run.NOT_FOUND, sample_run.TABLE
    ),
    "hostile": hostile_run,
    "review": sample_review.sample,
    "hostile review": sample_review.hostile,
}


@pytest.mark.parametrize("kind", RUNS)
def test_nothing_runs_and_nothing_is_wider_than_the_screen(chromium, tmp_path, kind: str):
    """Red: a document can run code in the report, or a phone has to scroll sideways."""
    path = tmp_path / "frames.html"
    path.write_text(framed(render(RUNS[kind]())), encoding="utf-8")
    shown = chromium("--dump-dom", f"file://{path}")
    assert "dataset.hacked" in shown
    found = dict(re.findall(r'data-w(\d+)="([^"]*)"', shown[:2_000]))
    assert set(found) == set(map(str, WIDTHS))
    for width, taken in found.items():
        assert taken.isdigit() and int(taken) <= int(width), found


def test_the_policy_stops_a_script_and_a_style_that_got_in(chromium, tmp_path):
    page = render(sample_run.collected()).replace("<header", f"{HACK}<p style='color:red'><header")
    path = tmp_path / "page.html"
    path.write_text(page, encoding="utf-8")
    shown = chromium("--dump-dom", f"file://{path}")
    assert HACK in shown and "data-hacked" not in shown
    path.write_text(page.replace("default-src 'none'", "img-src 'none'"), encoding="utf-8")
    assert "data-hacked" in chromium("--dump-dom", f"file://{path}"), "the test tests nothing"


def test_a_footnote_opens_the_passage_it_names_and_no_other(chromium, tmp_path):
    path = sample_run.write(tmp_path / "page.html")
    shown = chromium("--dump-dom", f"file://{path}#q1-n2")
    parts = re.findall(r"<details( open=\"\")?>\s*<summary>In its surroundings", shown)
    assert [bool(part) for part in parts] == [False, True, False, False, False]


def test_on_paper_every_footnote_is_open(chromium, tmp_path):
    path = sample_run.write(tmp_path / "page.html", sample_run.ANSWER, sample_run.TABLE)
    pdf = tmp_path / "page.pdf"
    chromium("--no-pdf-header-footer", f"--print-to-pdf={pdf}", f"file://{path}")
    with closing(pypdfium2.PdfDocument(pdf)) as document:
        pages = [" ".join(page.get_textpage().get_text_range().split()) for page in document]
    whole = " ".join(pages)
    assert whole.count("verbatim in the file") == 8
    assert whole.count("member for Saltmarsh asked who would pay") == 6
    assert "In its surroundings" not in whole
    assert any(page.startswith("2 Compare what the papers") for page in pages)


def test_on_paper_a_review_has_its_numbers_and_its_patches(chromium, tmp_path):
    """Red: who prints a review loses the heat with the colour, or what was suggested."""
    path, pdf = tmp_path / "page.html", tmp_path / "page.pdf"
    path.write_text(render(sample_review.sample()), encoding="utf-8")
    chromium("--no-pdf-header-footer", f"--print-to-pdf={pdf}", f"file://{path}")
    with closing(pypdfium2.PdfDocument(pdf)) as document:
        pages = [" ".join(page.get_textpage().get_text_range().split()) for page in document]
    whole = " ".join(pages)
    assert "99.0" in whole and "+ return fmean(values)" in whole
    assert whole.count("value_150 = 150") == 1, "whole files stay closed"
