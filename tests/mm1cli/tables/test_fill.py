"""Red here means a table says what its documents do not, or leaves a cell without its source."""

import pytest
from commandline import POSITIONS, write_files
from corpora import corpus

from engine.engine import Engine
from mm1cli.answering import abstention, context_source
from mm1cli.answering.meter import Meter
from mm1cli.grounding.dates import dates
from mm1cli.ingest import read_corpus
from mm1cli.ingest.manifest import ReadingPlan
from mm1cli.ingest.pack import pack
from mm1cli.output import make_sink
from mm1cli.result import CitationKind, CitationStatus
from mm1cli.retrieval.passages import passages
from mm1cli.retrieval.rerank import Reranker
from mm1cli.settings import Settings
from mm1cli.tables import contradictions, markdown
from mm1cli.tables.cell import CellStages, DocumentQA
from mm1cli.tables.markdown import Cell

QUICK = ("--max-tokens", 8, "--threads", 1)
PAPERS = {
    "a.md": "The bridge cost 48 million crowns in all. The bridge was opened on 3 May 1904.\n",
    "b.md": "The bridge cost 52 million crowns in all. The ferry was not stopped in June 1905.\n",
    "c.md": "A cat sat on the mat. The ferry was stopped in June 1905, says the cat.\n",
}


@pytest.fixture
def papers(no_settings, tmp_path):
    return write_files(tmp_path / "here" / "papers", PAPERS)


def ask(mm1, model, papers, *more):
    ran = mm1("analyze", "papers", "--model", model, *QUICK, "--json", *more)
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
    assert all(f" [{number}]" in answer["answer"] for number in by_number)


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


@pytest.mark.parametrize("template", ["compare", "summary"])
def test_what_fits_is_read_whole_a_document_at_a_time(mm1, llama, papers, template):
    """Red: the run says it reads everything, and the model is shown a few passages."""
    ran = mm1("analyze", "papers", "--model", llama, *QUICK, "--json", "--template", template)
    manifest, (answer,) = ran.json["manifest"], ran.json["answers"]
    assert manifest["plan"] == answer["plan"] == "whole"
    sizes = {entry["path"]: entry["tokens"] for entry in manifest["files"]}
    assert {part["path"]: part["tokens"] for part in answer["read"]} == sizes
    assert all(part["locator"] is None for part in answer["read"])
    usage = answer["usage"]
    assert usage["read_tokens"] == usage["corpus_tokens"] == sum(sizes.values())
    assert usage["context_tokens"] - usage["reused_tokens"] > usage["corpus_tokens"]
    assert usage["prefill_s"] > 0 and usage["decode_s"] > 0 and usage["output_tokens"] > 0


def test_a_silent_document_has_an_empty_cell_and_is_read_all_the_same(
    mm1, llama, papers, monkeypatch
):
    """Red: a cell is filled from a document that says nothing of it, or "whole" is not true."""
    monkeypatch.setattr(abstention, "MIN_SCORE_MARGIN", float("inf"))
    monkeypatch.delenv("MM1_ALWAYS_ANSWER", raising=False)
    one = ("--template", "compare", "--ask", "the bridge")
    answer = ask(mm1, llama, papers, *one)
    assert not answer["is_found"] and not answer["citations"]
    assert [row["the bridge"]["text"] for row in answer["value"]["rows"]] == [None] * 3
    usage = answer["usage"]
    assert usage["read_tokens"] == usage["corpus_tokens"] <= usage["context_tokens"]
    assert ask(mm1, llama, papers, *one, "--always-answer")["is_found"]


@pytest.fixture
def too_long(mm1, llama, papers):
    """Arguments for a run over papers that do not fit."""
    write_files(papers, {"long.md": "The rat is on a mat far away from it all. " * 90})
    how = ("analyze", "papers", "--model", llama, *QUICK, "--template", "compare")
    how = (*how, "--ask", "the bridge", "--json")
    manifest = mm1(*how, "--dry-run").json["manifest"]
    limit = POSITIONS - manifest["budget_tokens"] + manifest["totals"]["tokens"] - 200
    return (*how, "--context-tokens", limit)


def test_what_does_not_fit_is_read_by_passages(mm1, too_long):
    """Red: the model is shown what the run does not count, or more than the context holds."""
    ran = mm1(*too_long)
    manifest, (answer,) = ran.json["manifest"], ran.json["answers"]
    assert manifest["plan"] == answer["plan"] == "retrieval"
    usage = answer["usage"]
    assert 0 < usage["read_tokens"] < usage["corpus_tokens"]
    assert all(part["locator"] is not None for part in answer["read"])
    assert [left["reason"] for left in answer["not_read"] if left["path"] == "papers/long.md"]
    assert usage["reused_tokens"] == 0 and usage["prefill_s"] > 0


def test_a_second_run_reads_no_document_again(mm1, llama, papers, monkeypatch):
    """Red: what was read once is read for each column, or for each run."""
    monkeypatch.setattr(context_source, "FEWEST_SAVED_TOKENS", 16)
    one = ("--template", "compare", "--ask", "the bridge")
    runs = [ask(mm1, llama, papers, *one) for _ in range(2)]
    assert runs[0]["usage"]["reused_tokens"] == 0
    assert runs[1]["usage"]["reused_tokens"] > runs[1]["usage"]["corpus_tokens"]
    assert runs[0]["value"] == runs[1]["value"]
    two = ask(mm1, llama, papers, *one, "--ask", "the ferry", "--no-cache")["usage"]
    assert two["reused_tokens"] > 0


def test_strict_is_about_what_the_table_read(mm1, llama, papers, too_long):
    """Red: a table of a part of the input passes as one of all of it."""
    how = ("analyze", "papers/a.md", "papers/b.md", "--model", llama, *QUICK, "--strict")
    assert mm1(*how, "--template", "compare").code == 0
    for template in ("timeline", "contradictions"):
        ran = mm1(*how, "--template", template, "--json")
        assert ran.code == 5 and ran.json["manifest"]["plan"] == "retrieval"
    assert mm1(*too_long, "--strict").code == 5


def test_strict_citations_is_about_the_words_of_a_table(mm1, llama, papers, monkeypatch):
    """Red: a summary of all documents invents a number, and the run passes."""
    monkeypatch.setattr(CellStages, "generate", lambda *given: "It cost 99 crowns in all.")
    how = ("analyze", "papers", "--model", llama, *QUICK, "--template", "summary")
    monkeypatch.setattr(Reranker, "baseline", lambda *given: -1e9)
    assert mm1(*how).code == 0
    ran = mm1(*how, "--strict-citations")
    assert ran.code == 6 and "“99 crowns”" in ran.err


@pytest.mark.parametrize("template", ["compare", "timeline", "contradictions"])
def test_every_citation_of_a_table_is_an_event(mm1, llama, papers, template):
    """Red: a program that follows the events learns of sources only at the end."""
    how = ("analyze", "papers", "--model", llama, *QUICK, "--format", "jsonl")
    events = mm1(*how, "--template", template).events
    *_, result = (event for event in events if event["type"] == "result")
    sent = [event for event in events if event["type"] == "citation"]
    assert sent
    assert [one["number"] for one in sent] == [one["number"] for one in result["citations"]]
    assert [one["text"] for one in sent] == [one["text"] for one in result["citations"]]
    kinds = [event["type"] for event in events if event["type"] in {"token", "citation", "result"}]
    assert kinds == sorted(kinds, key=["token", "citation", "result"].index)


def test_people_see_the_table_on_stdout_and_can_pipe_it(mm1, llama, papers):
    """Red: `> table.txt` does not hold the quotes, or has each twice."""
    ran = mm1("analyze", "papers", "--model", llama, "--threads", 1, "--template", "timeline")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("| Date | Document | What it says |\n")
    assert "\n[1] papers/a.md, line 1\n    │ The bridge was opened on 3 May 1904.\n" in ran.out
    assert ran.out.count("\n[1] ") == 1 and "[1] " not in ran.err


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


class Saying:
    """A decoding that says what it is told to."""

    token_ids = (1, 2)
    stop_reason, num_drafted, num_accepted = "end", 0, 0

    def __init__(self, text: str) -> None:
        self._text = text

    def __iter__(self):
        return iter(self._text.partition(" "))


@pytest.fixture
def document(llama, papers, monkeypatch):
    """One paper, asked with a model that says `document.text`; `constraints` are those of what it
    decoded. Every question has an answer."""
    engine = Engine(llama, threads=1)

    def decode(context, **options):
        document.constraints.append(options["constraint"])
        return Saying(document.text)

    monkeypatch.setattr(engine, "decode", decode)
    sink = make_sink("json", True)
    stages = CellStages(engine, ReadingPlan.WHOLE, Settings(), sink, Meter(engine))
    monkeypatch.setattr(stages.reranker, "baseline", lambda question: -1e9)
    packed = pack(read_corpus(["papers/a.md"]), engine.tokenizer)
    document = DocumentQA(stages, packed)
    document.stages, document.constraints = stages, []
    return document


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
def test_a_cell_holds_only_what_its_document_carries(document, monkeypatch, written, kept):
    """Red: an invented figure stands in a table beside a true quote."""
    document.text = written
    cell = document.ask("What did the bridge cost?")
    if kept is None:
        assert cell.best is None and cell.text == "" and not cell.citations
        return
    assert cell.best is not None
    assert cell.text == (written if kept else cell.best.text)
    assert cell.citations[0].text == cell.best.text
    monkeypatch.setattr(abstention, "MIN_SCORE_MARGIN", 0.0)
    monkeypatch.setattr(document.stages.reranker, "baseline", lambda question: 0.0)
    assert document.ask("What did the bridge cost?").best is None


def test_a_cell_quotes_only_its_own_document(document):
    """Red: a quotation in a cell stands nowhere, in another document, or is not cited."""
    document.text = "It “cost 48 million crowns” in all."
    cell = document.ask("What did the bridge cost?")
    assert cell.text == document.text
    assert [one.text for one in cell.citations[1:]] == ["cost 48 million crowns"]
    assert cell.citations[1].kind is CitationKind.QUOTE
    document.text = "The bridge “cost 52 million crowns” in all."
    cell = document.ask("What did the bridge cost?")
    assert cell.text == cell.best.text and len(cell.citations) == 1
    for constraint in document.constraints:
        allowed = constraint.suffixes().text
        assert b"48 million" in allowed and b"52 million" not in allowed


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
