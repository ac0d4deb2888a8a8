"""The report: what the page says, that it is whole and safe, and where it may be written."""

import base64
import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
import sample_run
from hypothesis import given
from hypothesis import strategies as st
from sample_run import HOSTILE, hostile_run

from mm1cli.errors import Mm1Error, UsageError
from mm1cli.ingest.corpus import Block, Corpus, Document, Omission, Reason
from mm1cli.ingest.manifest import build
from mm1cli.output.citation_context import Sources
from mm1cli.output.file import OutputFile
from mm1cli.output.page import Collected, render
from mm1cli.output.tee import Tee
from mm1cli.result import Answer, Citation, CitationStatus, Claim

VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})


class Page(HTMLParser):
    """The page's elements; fails on what is not well nested."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.html = html
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    @property
    def text(self) -> str:
        shown = "".join(text for tag, text in self.texts if tag not in ("style", "title"))
        return " ".join(shown.split())

    @property
    def ids(self) -> list[str]:
        return [str(attrs["id"]) for _, attrs in self.tags if "id" in attrs]

    @property
    def links(self) -> list[str]:
        return [str(attrs["href"]) for _, attrs in self.tags if "href" in attrs]

    def of_class(self, name: str) -> list[str]:
        return [tag for tag, attrs in self.tags if name in (attrs.get("class") or "").split()]


def page(*answers: Answer) -> Page:
    return Page(render(sample_run.collected(*answers)))


def test_it_says_what_was_asked_answered_read_and_spent():
    shown = page().text
    for words in (
        "What did the crossing cost, and when did it open?",
        "The crossing cost 48.2 million crowns,",
        "21,310 of 21,310 tokens read whole",
        "7 seen = 4 read + 3 left out",
        "no text layer (1) papers/scan.pdf 12 pages; --ocr reads them",
        "page 2 of the file, printed as “ii”, line 2 of it, under “Costs”",
        "makes the answer likelier (+0.83 nats per token)",
        "makes the answer no likelier (-0.02 nats per token)",
        "drew 21 % of the answer’s attention",
        sample_run.ANSWER.model_fingerprint,
        "2026-11-23 09:30:00+00:00",
        "400 (--max-tokens)",
        "page 7 has no text layer",
    ):
        assert words in shown, words


def test_each_claim_has_its_numbers_and_one_without_evidence_is_marked():
    """Red: a reader takes an unsupported sentence for a supported one."""
    shown = page().text
    assert "more than was planned.12 It opened" in shown
    assert "walked over it”5.3 Everybody" in shown
    assert "Everybody was pleased with it.no evidence" in shown
    assert "1 statement of 3 without evidence" in shown
    assert "3.2not in the documents million" in shown
    classes = page()
    assert classes.of_class("quote-normalised") == ["span"]
    assert len(classes.of_class("unsupported")) == 2  # the sentence, and the line that explains
    assert len(classes.of_class("unverified")) == 2


def test_a_passage_is_shown_in_its_surroundings():
    html = page(sample_run.ANSWER).html
    marked = re.search(r'before the crossing.*?<mark id="q1-n2">(.*?)</mark>', html, re.DOTALL)
    assert marked and marked.group(1) == sample_run.COST
    beside = re.findall(r'<span class="beside">(.*?)</span>', html, re.DOTALL)
    assert len(beside) == 2 * len(sample_run.CITATIONS)
    assert "member for Saltmarsh asked who would pay" in beside[1]


def test_a_passage_that_is_not_where_it_should_be_is_not_shown_there():
    """Red: the page shows a passage in surroundings it does not stand in."""
    moved = replace(sample_run.CITATIONS[0], start=3, end=30)
    html = page(replace(sample_run.ANSWER, citations=(moved,))).html
    assert "<mark" not in html and "The text around it is not at hand." in html


def test_not_found_is_an_answer_of_its_own():
    answer = page(sample_run.NOT_FOUND)
    assert "Not found Not found in the 4 documents read" in answer.text
    assert "What came nearest These passages do not answer the question." in answer.text
    guessed = page(replace(sample_run.NOT_FOUND, words="A certain Brunel did."))
    assert "though nothing carries it A certain Brunel did." in guessed.text
    cut = replace(sample_run.NOT_FOUND, words="A certain", stop_reason="max tokens")
    assert "cut off" not in page(cut).text, "what was cut is not the answer"


def test_a_table_in_an_answer_is_a_table_with_its_footnotes():
    shown = page(sample_run.TABLE)
    assert "paper cost opened council minutes 48.2 million crowns1 21 September 20173" in shown.text
    assert "**" not in shown.text and "|" not in shown.text
    assert "1,904 of 21,310 tokens read by retrieval" in shown.text
    assert "The answer was cut off after 74 tokens (max tokens)." in shown.text


def test_thinking_is_hidden_and_never_in_the_answer():
    html = page().html
    assert re.search(r'<details class="thinking">.*The report gives it, too\.', html, re.DOTALL)
    assert html.count("The report gives it, too.") == 1


def test_several_questions_are_listed_and_every_link_leads_somewhere():
    """Red: a footnote number leads nowhere."""
    shown = page(sample_run.ANSWER, sample_run.NOT_FOUND, sample_run.TABLE)
    assert len(shown.ids) == len(set(shown.ids))
    assert len(shown.links) > 20
    for link in shown.links:
        assert link.startswith("#") and link[1:] in shown.ids, link
    assert "3 questions about 4 documents" in shown.text


def test_the_page_asks_nothing_of_anyone():
    """Red: opening a report tells somebody so, or a script in it could run."""
    for html in (render(sample_run.collected()), render(hostile_run())):
        shown = Page(html)
        assert not {"script", "img", "link", "iframe", "object", "form"} & {
            t for t, _ in shown.tags
        }
        for tag, attrs in shown.tags:
            assert not {"src", "srcset", "style", "action", "data"} & set(attrs), (tag, attrs)
            assert not [name for name in attrs if name.startswith("on")]
        ((_, policy),) = (t for t in shown.tags if t[1].get("http-equiv"))
        (css,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
        assert policy["content"] == (
            f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
        )
        assert not re.search(r"url\(|@import|https?:", css)


def test_hostile_text_is_spelled_out_and_the_page_stays_small():
    html = render(hostile_run())
    assert html.count("document.documentElement.dataset.hacked") > 10
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", html)
    assert "\\u202egpj" in html and "49" not in re.findall(r"\{\{ 7\*7 \}\}|\b49\b", html)
    assert len(html) < 200_000


any_text = st.text(st.characters(codec=None), max_size=80) | st.text(
    st.sampled_from("<>\"'&|*`#-\n “”.{}%\x00\u202e\ud83d"), max_size=60
)


@given(any_text, st.lists(st.integers(0, 80), max_size=6), st.lists(any_text, max_size=2))
def test_any_answer_makes_a_page_with_all_its_words(text: str, cuts, unverified):
    """Red: some text breaks the page, or loses a word on it."""
    borders = sorted({min(cut, len(text)) for cut in cuts})
    claims = tuple(Claim(start, end, (1,) if start % 2 else ()) for start, end in pairwise(borders))
    answer = replace(sample_run.ANSWER, text=text, claims=claims, unverified=tuple(unverified))
    shown = Page(render(sample_run.collected(answer)))
    assert not {"script", "img"} & {tag for tag, _ in shown.tags}
    words = re.findall(r"[a-zé港]+", text)
    html = re.sub(r"<style>.*</style>", "", shown.html, flags=re.DOTALL)
    assert all(word in html for word in words)


def test_a_thousand_documents_stay_readable():
    documents = tuple(
        Document(f"notes/{n:04}.txt", "text", 10, "0", "r", (Block(f"note {n}"),))
        for n in range(1_000)
    )
    omissions = tuple(Omission(f"b/{n}", Reason.BINARY) for n in range(5_000))
    corpus = Corpus(documents, omissions)
    block = documents[500].blocks[0]
    cited = Citation(
        1, documents[500].path, block.locate(0, 8), "note 500", CitationStatus.EXACT, -1.0
    )
    answer = replace(
        sample_run.ANSWER, citations=(cited,), claims=(), read=(), unverified=(), thinking=""
    )
    tokens = [1 + n % 7 for n in range(1_000)]
    html = render(
        Collected(
            datetime(2026, 1, 1, tzinfo=UTC),
            "0",
            manifest=build(corpus, tokens, 10**6),
            sources=Sources(corpus, tokens),
            answers=[answer],
        )
    )
    assert len(html) < 1_500_000
    first = html.index("Documents with evidence or warnings")
    everything = html.index("All 1,000 documents")
    assert html.index("notes/0500.txt", first) < everything < html.index("notes/0999.txt", first)
    assert "and 2,000 more" in html
    (mark,) = re.findall(r'<rect class="heat4" x="([\d.]+)%', html)
    assert float(mark) == pytest.approx(100 * sum(tokens[:500]) / sum(tokens), abs=0.1)


def report(path: Path) -> OutputFile:
    return OutputFile(path, made=sample_run.MADE, version="0.1.0", endings=(".html",))


def test_the_sink_writes_the_run_it_was_told(tmp_path):
    path = tmp_path / "out.html"
    sink = report(path)
    sample_run.play(Tee(sink), sample_run.ANSWER, sample_run.NOT_FOUND)
    assert not path.exists()
    sink.write()
    shown = Page(path.read_text(encoding="utf-8"))
    assert "2 questions about 4 documents" in shown.text
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.html"]
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    assert path.stat().st_mode == ordinary.stat().st_mode


def test_a_report_replaces_a_report_and_nothing_else(tmp_path):
    """Red: a slip of the finger costs the user a file."""
    path = tmp_path / "out.html"
    path.touch()
    for _ in range(2):
        sink = report(path)
        sample_run.play(sink, sample_run.ANSWER)
        sink.write()
    other = tmp_path / "thesis.html"
    other.write_text("<!doctype html><p>years of work")
    with pytest.raises(UsageError, match="mm1 did not write"):
        report(other)
    assert other.read_text() == "<!doctype html><p>years of work"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "is a folder"),
        ("missing/out.html", "there is no folder"),
        ("/proc/out.html", "cannot be written"),
        ("/dev/null", "no ordinary file"),
        ("x" * 300, "cannot be written"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused_before_the_work(tmp_path, name, words):
    with pytest.raises(UsageError, match=words):
        report(tmp_path / name)


def test_a_link_to_a_report_stays_a_link(tmp_path):
    real, link = tmp_path / "real.html", tmp_path / "link.html"
    link.symlink_to(real)
    sink = report(link)
    sample_run.play(sink, sample_run.ANSWER)
    sink.write()
    assert link.is_symlink() and "mm1 report" in real.read_text()


def test_a_failed_write_leaves_the_old_report_and_no_rubbish(tmp_path, monkeypatch):
    path = tmp_path / "out.html"
    sink = report(path)
    sample_run.play(sink, sample_run.ANSWER)
    sink.write()
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.durable.os.fsync", fail)
    with pytest.raises(Mm1Error, match="No space left on device"):
        sink.write()
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.html"]


def test_a_table_the_program_filled_has_its_footnotes_in_the_cells():
    """Red: "[1]" in a cell is no link, or the sources stand on the page twice."""
    shown = page(sample_run.FILLED)
    words = "48.2 million [sic] crowns | all told1 papers/ferry-survey.md not found"
    assert words in shown.text and "[1]" not in shown.text
    assert "Together: 48.2 million." in shown.text
    assert shown.text.count(sample_run.COST) == 2, "as a quote, and in its surroundings"
    plain = page(replace(sample_run.FILLED, value=None))
    assert "all told [1]" in plain.text, "a model's own [1] is no footnote of ours"


def test_a_structured_answer_is_laid_out_and_there_as_it_was_written():
    shown = page(sample_run.STRUCTURED)
    for words in (
        "title The crossing years 20152017 costs whatcrownsnote bridge48.2– quay–fromminutes",
        '{"title": "The crossing", "years": [2015, 2017]',
    ):
        assert re.sub(r"\s", "", words) in re.sub(r"\s", "", shown.text), shown.text
    deep: object = "the end"
    for _ in range(400):
        deep = [deep]
    answer = replace(sample_run.STRUCTURED, value={HOSTILE: deep}, text="{")
    assert "the end" in page(answer).text


def luminance(color: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_every_text_stands_out_from_its_ground_by_day_by_night_and_on_paper():
    """Red: some text is too pale to read (WCAG 2 AA asks for 4.5)."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    css = re.search(r"<style>(.*?)</style>", render(sample_run.collected()), re.DOTALL)
    assert css is not None
    themes = [
        {
            name: "#" + (code if len(code) == 6 else "".join(c * 2 for c in code))
            for name, code in found
        }
        for block in re.findall(r":root \{(.*?)\}", css.group(1), re.DOTALL)
        if (found := re.findall(r"--([\w-]+): #([0-9a-f]{6}|[0-9a-f]{3});", block))
    ]
    assert len(themes) == 3
    for theme in themes:
        for ground in ("paper", "card"):
            for text in ("ink", "muted", "link", "good", "warn", "bad"):
                assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground, theme)
        assert contrast(theme["ink"], theme["mark"]) >= 4.5
        for strip in ("odd", "even"):
            assert contrast(theme["on-strip"], theme[strip]) >= 4.5, (strip, theme)


def test_headings_skip_no_level():
    for answers in ((sample_run.ANSWER,), (sample_run.ANSWER, sample_run.NOT_FOUND)):
        levels = [int(tag[1]) for tag, _ in page(*answers).tags if re.fullmatch(r"h\d", tag)]
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))


def test_a_contradicted_claim_names_what_says_otherwise():
    """Red: a reader takes a sentence that a passage denies for one that it carries."""
    first, *others = sample_run.ANSWER.claims
    answer = replace(sample_run.ANSWER, claims=(Claim(first.start, first.end, (1,), (2,)), *others))
    shown = page(answer)
    assert "more than was planned.contradicted2" in shown.text
    assert "1 of 3 statements: a passage below says otherwise" in shown.text
    assert len(shown.of_class("contradicted")) > 1
