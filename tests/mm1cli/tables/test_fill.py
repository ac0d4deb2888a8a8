"""Red here means a table says what its documents do not, or leaves a cell without its source."""

import pytest
from commandline import write_files
from corpora import corpus

from mm1cli.grounding.dates import dates
from mm1cli.result import CitationStatus
from mm1cli.retrieval.passages import passages
from mm1cli.tables import contradictions, markdown
from mm1cli.tables.cell import DocumentQA
from mm1cli.tables.markdown import Cell

PAPERS = {
    "a.md": "The bridge cost 48 million crowns in all. The bridge was opened on 3 May 1904.\n",
    "b.md": "The bridge cost 52 million crowns in all. The ferry was not stopped in June 1905.\n",
    "c.md": "A cat sat on the mat. The ferry was stopped in June 1905, says the cat.\n",
}


@pytest.fixture
def papers(no_settings, tmp_path):
    return write_files(tmp_path / "here" / "papers", PAPERS)


def ask(mm1, model, papers, *more):
    short = ("--max-tokens", 8, "--threads", 1)
    ran = mm1("analyze", "papers", "--model", model, *short, "--json", *more)
    assert ran.code == 0, ran.err
    (answer,) = ran.json["answers"]
    return answer


def analyze(mm1, model, papers, *more):
    """Asks, and holds every citation against the files."""
    answer = ask(mm1, model, papers, *more)
    for citation in answer["citations"]:
        text = PAPERS[citation["path"].removeprefix("papers/")]
        assert text[citation["start"] : citation["end"]] == citation["text"]
        assert citation["status"] == CitationStatus.EXACT
    return answer


def test_every_cell_of_a_comparison_has_a_source_in_its_own_document(mm1, llama, papers):
    """Red: a cell quotes another document, or nothing, and does not say so."""
    answer = analyze(mm1, llama, papers, "--template", "compare", "--ask", "the bridge")
    by_number = {citation["number"]: citation for citation in answer["citations"]}
    rows = answer["value"]["rows"]
    assert [row["Document"]["text"] for row in rows] == [f"papers/{name}" for name in PAPERS]
    assert answer["value"]["columns"] == ["Document", "the bridge"]
    for row in rows:
        cell = row["the bridge"]
        assert cell["is_found"] == bool(cell["citations"]) == bool(cell["text"])
        for number in cell["citations"]:
            assert by_number[number]["path"] == row["Document"]["text"]
    lines = answer["answer"].splitlines()
    assert lines[0] == "| Document | the bridge |" and lines[1] == "|---|---|"
    assert all(
        f"[{citation['number']}] {citation['path']}, " in answer["answer"]
        for citation in answer["citations"]
    )


def test_a_summary_has_a_row_for_each_document_and_one_text(mm1, llama, papers):
    """Red: a document is left out of the summary."""
    answer = analyze(mm1, llama, papers, "--template", "summary")
    assert len(answer["value"]["rows"]) == 3
    assert answer["answer"].startswith("| Document | Summary |")


def test_a_timeline_is_in_order_and_verbatim(mm1, llama, papers):
    """Red: dates are out of order, or sentences are not those of the documents."""
    answer = analyze(mm1, llama, papers, "--template", "timeline")
    found = [(row["Date"]["text"], row["What it says"]["text"]) for row in answer["value"]["rows"]]
    assert found == [
        ("1904-05-03", "The bridge was opened on 3 May 1904."),
        ("1905-06", "The ferry was not stopped in June 1905."),
        ("1905-06", "The ferry was stopped in June 1905, says the cat."),
    ]


def test_contradictions_are_pairs_of_different_documents(mm1, llama, papers):
    """Red: what differs is not found, or what agrees is called a contradiction."""
    answer = analyze(mm1, llama, papers, "--template", "contradictions")
    rows = answer["value"]["rows"]
    assert {row["They differ in"]["text"] for row in rows} == {"numbers", "negation"}
    assert len(rows) == 2
    (numbers,) = (row for row in rows if row["They differ in"]["text"] == "numbers")
    sides = sorted(numbers[name]["text"] for name in ("One says", "Another says"))
    assert [side.split(" in all")[0] for side in sides] == [
        "papers/a.md: The bridge cost 48 million crowns",
        "papers/b.md: The bridge cost 52 million crowns",
    ]


@pytest.mark.parametrize("template", ["compare", "summary", "timeline", "contradictions"])
def test_what_the_model_was_shown_is_reported(mm1, llama, papers, template):
    """Red: a table is filled from documents, and usage says that nothing was read."""
    answer = ask(mm1, llama, papers, "--template", template, "--ask", "the bridge")
    usage = answer["usage"]
    assert 0 < usage["read_tokens"] == sum(part["tokens"] for part in answer["read"])
    assert {part["path"] for part in answer["read"]} == {f"papers/{name}" for name in PAPERS}


def test_people_see_the_table_on_stdout_and_can_pipe_it(mm1, llama, papers):
    """Red: `> table.md` does not hold the quotes."""
    ran = mm1("analyze", "papers", "--model", llama, "--threads", 1, "--template", "timeline")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("| Date | Document | What it says |\n")
    assert "\n[1] papers/a.md, line 1\n> The bridge was opened on 3 May 1904.\n" in ran.out


def test_a_dry_run_looks_at_the_template_too(mm1, llama, papers):
    """Red: a template that does not exist is found out after the dry run."""
    arguments = ("analyze", "papers", "--model", llama, "--dry-run", "--template")
    assert mm1(*arguments, "no-such").code == 2
    assert mm1(*arguments, "compare").code == 0


def test_a_template_that_is_a_question(mm1, llama, papers, tmp_path):
    """Red: a template of one's own with a schema does not enforce it."""
    own = tmp_path / "own.md"
    own.write_text('+++\nschema = "ok bool"\n+++\nIs {{ask}} there?\n')
    answer = ask(mm1, llama, papers, "--template", own, "--ask", "a cat", "--max-tokens", 20)
    assert answer["question"] == "Is a cat there?"
    assert answer["value"]["ok"] in {True, False}
    ran = mm1("analyze", "papers", "--model", llama, "--template", own)
    assert ran.code == 2 and "--ask" in ran.err


@pytest.mark.parametrize("template", ["compare", "contradictions"])
def test_a_table_and_a_schema_are_two_shapes(mm1, papers, template):
    """Red: --schema is passed over in silence."""
    ran = mm1("analyze", "papers", "--template", template, "--schema", "a int")
    assert ran.code == 2 and "without --schema" in ran.err


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("The bridge cost 48 million crowns.", True),
        ("The bridge cost 84 million crowns.", False),
        ("Some unrelated sentence about entirely different matters.", False),
        ("What did the bridge cost?", False),
        ("", False),
        ("Not found in the documents.", None),
    ],
)
def test_a_cell_holds_only_what_its_document_carries(llama, papers, monkeypatch, written, kept):
    """Red: an invented figure stands in a table beside a true quote."""
    from engine.engine import Engine
    from mm1cli.ingest import read_corpus
    from mm1cli.settings import Settings

    interview = DocumentQA(Engine(llama, threads=1), Settings())
    monkeypatch.setattr(interview, "generate", lambda *given: (written, 1, 1))
    monkeypatch.setattr(interview, "_baseline", lambda question: -1e9)
    document = read_corpus(["papers/a.md"]).documents[0]
    filled = interview.ask(document, "What did the bridge cost?")
    if kept is None:
        assert filled.best is None and filled.text == ""
        return
    assert filled.best is not None
    assert filled.text == (written if kept else filled.best.passage.text)
    monkeypatch.setattr(interview, "_baseline", lambda question: 0.0)
    assert interview.ask(document, "What did the bridge cost?").best is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("opened on 21 September 2017, closed 2017-09-22", ["2017-09-21", "2017-09-22"]),
        ("September 3rd, 1999 and the 4th of May 2001", ["1999-09-03", "2001-05-04"]),
        (
            "am 3. März 1999, 03.04.2001; le 1er août 2003",
            ["1999-03-03", "2001-04-03", "2003-08-01"],
        ),
        ("In May 1904, since 1905; 1906 people came", ["1904-05", "1905"]),
        ("2,017 cats, 2017.5 km, part 1904-17-99, in 2017 metres", []),
        ("may 12 people come in 20 years", []),
    ],
)
def test_dates_are_found_by_their_form(text, found):
    """Red: a timeline lacks events, or counts people as years."""
    assert list(map(str, dates(text))) == found


@pytest.mark.parametrize(
    ("one", "other", "differs"),
    [
        ("The final bridge cost 48 crowns.", "The final bridge cost 52 crowns.", "numbers"),
        ("The harbour ferry was stopped.", "The harbour ferry was never stopped.", "negation"),
        ("The final bridge cost 48 crowns.", "The final bridge cost 48 crowns.", None),
        ("The final bridge cost 48 crowns.", "A cat sat on mat 52.", None),
    ],
)
def test_candidates_speak_of_the_same_and_differ(one, other, differs):
    """Red: the model is asked about pairs that agree, or never sees those that do not."""
    rest = ["Nothing else is said here about any of it.", "Quite another matter altogether."]
    sentences = [s for p in passages(corpus(one, other, *rest)) for s in p.spans(1)]
    found, left = contradictions.pairs(sentences, lambda done, total: None)
    assert [pair.differs for pair in found] == ([differs] if differs else [])
    assert left == 0


def test_a_cell_cannot_break_the_table():
    """Red: a bar or a line break in a document makes another column or row."""
    line = markdown.line([Cell("a | b\n| c | `<b>`"), Cell("", is_found=False), Cell("x", (1, 2))])
    assert line == "| a \\| b \\| c \\| \\`\\<b>\\` | not found | x [1] [2] |\n"
