import dataclasses
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote

import pytest
import sample_run
from hypothesis import given
from hypothesis import strategies as st

from mm1cli.ingest.corpus import Block, Corpus, Document, Locator, Omission, Place, Reason
from mm1cli.ingest.manifest import Manifest, ReadingPlan, build
from mm1cli.output.links import Links
from mm1cli.output.terminal import Terminal
from mm1cli.output.text import Channel, cell_width, safe
from mm1cli.result import Answer, Citation, CitationStatus, Claim, Usage
from mm1cli.sink import RunInfo, Sink

WIDTHS = [20, 40, 80, 200]
HOSTILE = "\x1b[31m[bold]red[/bold]\x9b2J\u202egpj\x07\r"
LONG_PATH = "papers/2024/harbour/" + "very-" * 12 + "long-report.pdf"
USAGE = Usage(
    corpus_tokens=12_044,
    read_tokens=3_912,
    context_tokens=4_190,
    reused_tokens=0,
    output_tokens=42,
    prefill_s=9.1,
    decode_s=2.0,
    total_s=11.2,
)


def answer(text: str, stop_reason: str = "stop") -> Answer:
    return Answer("Why?", text, (), USAGE, ReadingPlan.RETRIEVAL, stop_reason, 0)


def citation(text: str, **changes: object) -> Citation:
    values = {
        "number": 1,
        "path": "harbour-report.pdf",
        "locator": Locator("line", 3, 4, Place("page", 1)),
        "text": text,
        "status": CitationStatus.EXACT,
        "score": -1.0,
    }
    return Citation(**(values | changes))  # type: ignore[arg-type]


def manifest(budget_tokens: int = 7_680, path: str = LONG_PATH, ignored: int = 5) -> Manifest:
    documents = tuple(
        Document(name, kind, 10, "0" * 64, "reader", (Block("x"),), warnings)
        for name, kind, warnings in [
            (path, "pdf", ("page 7 has no text layer",)),
            ("notes.md", "text", ()),
            ("港の歴史.docx", "docx", ()),
        ]
    )
    omissions = (
        Omission("scan.pdf", Reason.NO_TEXT),
        Omission("broken.pdf", Reason.UNREADABLE, "xref table is broken"),
        *(Omission(f"ignored/{index}", Reason.IGNORED) for index in range(ignored)),
    )
    return build(Corpus(documents, omissions), [3_912, 1_024, 7_108], budget_tokens)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Stage:
    """A Terminal on two streams that can be read back."""

    def __init__(
        self,
        *,
        terminals: bool = False,
        quiet: bool = False,
        width: int | None = 80,
        answer_only: bool = False,
    ):
        self.clock = Clock()
        self.stdout = io.StringIO()
        self.stderr = io.StringIO()
        self.sink: Sink = Terminal(
            Channel(self.stdout, is_terminal=terminals, width=width),
            Channel(self.stderr, is_terminal=terminals, width=width),
            quiet=quiet,
            answer_only=answer_only,
            clock=self.clock,
        )
        self.sink.init(RunInfo("analyze", "mini"))

    @property
    def out(self) -> str:
        return self.stdout.getvalue()

    @property
    def err(self) -> str:
        return self.stderr.getvalue()


@given(st.lists(st.text(st.characters(codec=None))))
def test_with_answer_only_a_pipe_gets_the_answer_and_a_newline(tokens: list[str]):
    stage = Stage(answer_only=True)
    text = "".join(tokens)
    stage.sink.manifest(manifest(), show=False)
    stage.sink.question("Why?", 0, 1)
    for token in tokens:
        stage.sink.token(token)
        stage.sink.note("in the middle")
        stage.sink.citation(citation("quote"))
    stage.sink.answer(answer(text))
    stage.sink.close()
    spelled = safe(text).encode("utf-8", "backslashreplace").decode()
    assert stage.out == (spelled if text.endswith("\n") else spelled + "\n")
    assert stage.err.count("note: in the middle\n") == len(tokens)
    assert stage.err.count("[1] ") == len(tokens), "the sources are not lost"


def test_thinking_goes_to_stderr_and_stands_apart():
    """Red: what a model thinks is piped on as its answer, or runs into the note behind it."""
    stage = Stage(terminals=True)
    stage.sink.thinking("why")
    stage.sink.note("noted")
    stage.sink.thinking("not")
    stage.sink.token("Silt.")
    assert stage.err == "why\nnote: noted\nnot\n\n"
    stage.sink.answer(answer("Silt."))
    assert stage.out == "Silt.\n"


def test_each_token_is_on_stdout_at_once():
    stage = Stage()
    stage.sink.token("one ")
    assert stage.out == "one "
    stage.sink.token("two")
    assert stage.out == "one two"


def test_the_usage_line():
    stage = Stage(width=40)
    stage.sink.token("Silt.")
    stage.sink.answer(answer("Silt."))
    assert stage.err == (
        "\nread 3,912 of 12,044 tokens (retrieval) · reused 0 of 4,190 · wrote 42 tokens"
        " · reading 9.1 s, writing 2.0 s (21 tok/s) · mini\n"
    )


def test_the_usage_line_says_what_a_streamed_model_read():
    stage = Stage(width=40)
    usage = dataclasses.replace(USAGE, weights_read_bytes=12_340_000_000, weights_hit_rate=0.844)
    stage.sink.answer(dataclasses.replace(answer("Silt."), usage=usage))
    assert " · weights: 12.3 GB read, 84% of uses did not wait · mini" in stage.err


def test_an_answer_cut_short_says_so():
    stage = Stage()
    stage.sink.answer(answer("Silt", stop_reason="length"))
    assert "wrote 42 tokens (stopped: length)" in stage.err


@pytest.mark.parametrize("width", WIDTHS)
def test_a_message_breaks_between_words_on_a_terminal_and_not_in_a_pipe(width: int):
    """Red: a file name in an error is torn in two at the right margin."""
    message = "no model here: give the folder that holds the config.json, or pull one"
    screen, pipe = Stage(terminals=True, width=width), Stage(width=width)
    for stage in (screen, pipe):
        stage.sink.error(message, 7)
        stage.sink.note(message)
    assert all(len(line) <= width for line in screen.err.splitlines())
    assert screen.err.split() == pipe.err.split()
    assert pipe.err == f"error: {message}\nnote: {message}\n"


def test_on_one_screen_an_aside_starts_its_own_line():
    stage = Stage(terminals=True)
    stage.sink.token("half an answer")
    stage.sink.note("look")
    assert stage.err == "\nnote: look\n"
    stage.sink.close()
    assert stage.out == "half an answer"


def test_quiet_keeps_errors_answers_and_citations():
    stage = Stage(quiet=True)
    stage.sink.manifest(manifest(), show=False)
    stage.sink.note("a note")
    stage.sink.progress("prefill", 0, 10, "tokens")
    stage.clock.now = 100.0
    stage.sink.progress("prefill", 10, 10, "tokens")
    assert stage.err == ""
    stage.sink.token("Silt.")
    stage.sink.citation(citation("quote"))
    stage.sink.answer(answer("Silt."))
    stage.sink.error("no such file", 3)
    assert stage.out == "Silt.\n\n[1] harbour-report.pdf, p. 2\n    │ quote\n"
    assert stage.err == "error: no such file\n"


def test_several_questions_are_headings_and_one_is_not():
    stage = Stage()
    stage.sink.question("Why?", 0, 1)
    stage.sink.token("Silt.")
    stage.sink.answer(answer("Silt."))
    assert stage.out == "Silt.\n"
    stage = Stage()
    for index, question in enumerate(["Why\nthen?", "When?"]):
        stage.sink.question(question, index, 2)
        stage.sink.token(f"answer {index}")
        stage.sink.answer(answer(f"answer {index}"))
    assert stage.out == "## Why then?\nanswer 0\n\n## When?\nanswer 1\n"


def test_what_is_said_before_the_next_question_stands_apart():
    stage = Stage()
    stage.sink.answer(answer("Silt."))
    for text in ("one", "two"):
        stage.sink.note(text)
    assert stage.err.endswith("mini\n\nnote: one\nnote: two\n")


def test_an_error_ends_the_open_line_first():
    stage = Stage()
    stage.sink.token("half")
    stage.sink.error("stopped;\nrun again", 130)
    stage.sink.close()
    assert stage.out == "half\n"
    assert stage.err == "error: stopped;\\nrun again\n"


def progress_lines(num_calls: int, total: int, seconds: float) -> list[str]:
    stage = Stage()
    for call in range(num_calls + 1):
        stage.clock.now = seconds * call / num_calls
        stage.sink.progress("prefill", total * call // num_calls, total, "tokens")
    return stage.err.splitlines()


def test_a_pipe_gets_a_line_first_and_one_per_ten_percent():
    lines = progress_lines(num_calls=100, total=8_200, seconds=1000)
    assert lines == ["model reads 1 % 82 of 8,200 tokens"] + [
        f"model reads {tenth}0 % {820 * tenth:,} of 8,200 tokens" for tenth in range(1, 11)
    ]


def test_short_work_is_not_reported_and_its_start_is_not_made_up_for():
    assert progress_lines(num_calls=50, total=8_192, seconds=1.9) == []
    assert progress_lines(num_calls=1, total=8_192, seconds=3) == [
        "model reads 100 % 8,192 of 8,192 tokens"
    ]
    assert progress_lines(num_calls=4, total=8_192, seconds=3) == [
        "model reads 75 % 6,144 of 8,192 tokens",
        "model reads 100 % 8,192 of 8,192 tokens",
    ]


def test_work_of_unknown_size_is_told_as_it_doubles():
    stage = Stage()
    for thousands in range(1, 9):
        stage.clock.now = thousands - 1.0
        stage.sink.progress("looking", thousands * 1000, 0, "files")
    stage.sink.progress("reading", 0, 8, "files")
    assert stage.err == "looking 3,000 files\nlooking 6,000 files\n"


def test_nothing_to_do_is_no_division_by_zero():
    assert progress_lines(num_calls=1, total=0, seconds=9) == []


def test_a_second_stage_is_timed_from_its_own_start():
    stage = Stage()
    stage.sink.progress("reading", 0, 4, "files")
    stage.clock.now = 10.0
    stage.sink.progress("prefill", 0, 10, "tokens")
    stage.clock.now = 11.0
    stage.sink.progress("prefill", 5, 10, "tokens")
    assert stage.err == ""
    stage.clock.now = 12.0
    stage.sink.progress("prefill", 6, 10, "tokens")
    assert stage.err == "model reads 60 % 6 of 10 tokens\n"


def test_the_same_stage_begun_again_is_new_work():
    stage = Stage()
    for seconds, done in [(0.0, 0), (1.9, 10), (10.0, 0), (11.9, 4), (12.0, 5), (13.0, 10)]:
        stage.clock.now = seconds
        stage.sink.progress("prefill", done, 10, "tokens")
    assert stage.err == "model reads 50 % 5 of 10 tokens\nmodel reads 100 % 10 of 10 tokens\n"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("terminals", [True, False])
def test_a_quote_is_shown_whole_behind_a_bar_within_the_width(width: int, terminals: bool):
    stage = Stage(terminals=terminals, width=width)
    quote = "The harbour was closed " * 40 + "x" * 300 + "\n\n  and reopened.\n"
    stage.sink.citation(citation(quote))
    stage.sink.close()
    lines = stage.out.strip("\n").split("\n")
    head = [line.strip() for line in lines if "│" not in line]
    lines = lines[len(head) :]
    assert " ".join(head) == "[1] harbour-report.pdf, p. 2"
    assert all(line.startswith("    │") and cell_width(line) <= width for line in lines)
    shown = "".join(line.removeprefix("    │") for line in lines)
    assert re.sub(r"\s", "", shown) == re.sub(r"\s", "", quote)


def test_citations_stand_apart_from_the_answer_once():
    stage = Stage()
    for number in (1, 2):
        stage.sink.citation(citation("quote", number=number))
    stage.sink.answer(answer("Silt."))
    assert stage.out.startswith("\n[1] ") and stage.out.count("\n\n") == 0


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (CitationStatus.EXACT, ""),
        (CitationStatus.NORMALISED, " (spacing or letter forms differ)"),
        (CitationStatus.NOT_FOUND, " (NOT FOUND in the source)"),
    ],
)
def test_a_citation_says_how_it_was_found(status: CitationStatus, words: str):
    stage = Stage()
    stage.sink.citation(citation("quote", status=status))
    stage.sink.answer(answer("Silt."))
    assert stage.out.split("\n")[1] == "[1] harbour-report.pdf, p. 2" + words


def test_a_manifest_goes_to_stdout_only_when_asked_for():
    asked, unasked = Stage(quiet=True), Stage()
    asked.sink.manifest(manifest(), show=True)
    unasked.sink.manifest(manifest(), show=False)
    assert asked.out and not asked.err
    assert unasked.err and not unasked.out


def test_the_table_adds_up():
    stage = Stage()
    stage.sink.manifest(manifest(), show=True)
    counts = [int(match.replace(",", "")) for match in re.findall(r"  ([\d,]+)\n", stage.out)]
    assert counts and sum(counts) == 12_044
    assert stage.out.endswith(
        "\n10 seen = 3 read + 7 left out; "
        "12,044 tokens of 7,680 budget: does not fit, will be read by retrieval\n"
    )


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (20_000, "fits, will be read whole"),
        (7_680, "does not fit, will be read by retrieval"),
    ],
)
def test_the_totals_say_how_it_will_be_read(budget: int, words: str):
    stage = Stage()
    stage.sink.init(RunInfo("tokens", "mini"))
    stage.sink.manifest(manifest(budget), show=True)
    assert stage.out.endswith(f"{words}\n")


def test_in_a_pipe_each_file_is_one_whole_line_with_its_warnings_below():
    stage = Stage(width=20)
    stage.sink.manifest(manifest(), show=True)
    lines = stage.out.splitlines()
    row = next(index for index, line in enumerate(lines) if line.startswith(LONG_PATH))
    assert lines[row] == f"{LONG_PATH}  pdf    3,912"
    assert lines[row + 1] == "  ! page 7 has no text layer"
    broken = next(line for line in lines if line.startswith("broken.pdf"))
    assert broken.endswith("  unreadable (xref table is broken)")
    assert sum(line.startswith("ignored/") for line in lines) == 5
    assert "…" not in stage.out


@pytest.mark.parametrize("show", [True, False])
@pytest.mark.parametrize("width", WIDTHS)
def test_on_a_terminal_nothing_is_wider_than_it(width: int, show: bool):
    stage = Stage(terminals=True, width=width)
    stage.sink.manifest(manifest(), show=show)
    if not show:
        stage.sink.answer(answer("\n"))
    text = stage.out + stage.err
    assert all(cell_width(line) <= width for line in text.splitlines())
    assert ("…" in text) == (width < 200)
    assert "rt.pdf" in text
    assert "does not fit" in " ".join(text.split())
    if show:
        assert all(count in text for count in ("3,912", "1,024", "7,108"))


def test_the_summary_names_every_reason_and_counts_what_it_does_not_name():
    stage = Stage()
    stage.sink.manifest(manifest(ignored=5), show=False)
    assert stage.err.split("\n")[1:] == [
        f"  ! {LONG_PATH}: page 7 has no text layer",
        "  ignored by .gitignore: ignored/0, ignored/1, ignored/2 and 2 more"
        " (mm1 tokens lists them)",
        "  no text layer: scan.pdf",
        "  unreadable: broken.pdf (xref table is broken)",
        "",
    ]


def test_of_what_was_excluded_a_few_are_named_and_the_rest_is_counted():
    """Red: --include '*.csv' fills the screen with all that it leaves out."""
    stage = Stage()
    left = tuple(Omission(f"x{n}", Reason.EXCLUDED, "not in --include") for n in range(5))
    stage.sink.manifest(build(Corpus((), left), [], 10), show=True)
    assert "x2 " in stage.out and "x3" not in stage.out
    assert "and 2 more excluded (not in --include); --json lists them" in stage.out
    assert "5 seen = 0 read + 5 left out" in stage.out


@pytest.mark.parametrize("terminals", [True, False])
def test_hostile_text_reaches_no_stream_raw_and_is_no_markup(terminals: bool):
    stage = Stage(terminals=terminals)
    document = Document(
        f"a{HOSTILE}\nb", f"k{HOSTILE}", 1, "0", "r", (Block("x"),), (f"w{HOSTILE}",)
    )
    omission = Omission(f"o{HOSTILE}", Reason.UNREADABLE, f"d{HOSTILE}")
    listed = build(Corpus((document,), (omission,)), [1], 10)
    for show in (True, False):
        stage.sink.manifest(listed, show=show)
    stage.sink.note(HOSTILE)
    stage.sink.question(HOSTILE, 0, 2)
    stage.sink.token(HOSTILE)
    stage.sink.citation(citation(HOSTILE, path=HOSTILE))
    stage.sink.answer(answer(HOSTILE))
    stage.sink.error(HOSTILE, 3)
    stage.sink.close()
    both = stage.out + stage.err
    assert all(char in "\n\t" or char.isprintable() for char in both)
    places = re.sub(r"\s|│", "", both).count("\\x1b[31m[bold]red[/bold]\\u009b2J\\u202egpj\\x07")
    assert places >= 8  # a terminal elides long paths, hence not one for each place


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_answer_in_json_stays_json_in_any_encoding(encoding: str):
    """Red: `--schema` in an old locale writes what no program can read."""
    value = {"name": "Zoë 港 😀", "cost": 4.5}
    text = json.dumps(value, ensure_ascii=False)
    raw = io.BytesIO()
    stdout = Channel(io.TextIOWrapper(raw, encoding=encoding))
    sink = Terminal(stdout, Channel(io.StringIO()))
    for index in range(2):
        sink.question("which?", index, 2)
        for at in range(0, len(text), 3):
            sink.token(text[at : at + 3])
        sink.token("\n")
    answers = [line for line in raw.getvalue().decode("utf-8").splitlines() if line[:1] == "{"]
    assert [json.loads(line) for line in answers] == [value, value]


def test_an_ascii_stream_spells_out_the_rest():
    raw = io.BytesIO()
    channel = Channel(io.TextIOWrapper(raw, encoding="ascii"))
    sink = Terminal(channel, channel)
    sink.token("é港")
    sink.citation(citation("naïve"))
    sink.answer(answer("é港"))
    sink.close()
    shown = raw.getvalue().decode("ascii")
    assert shown.startswith(r"\xe9\u6e2f")
    assert "    | na\\xefve\n" in shown


class BrokenPipe(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_broken_pipe_is_the_apps_to_handle_and_closing_stays_silent():
    stderr = io.StringIO()
    sink = Terminal(Channel(BrokenPipe()), Channel(stderr))
    with pytest.raises(BrokenPipeError):
        sink.token("text")
    sink.close()
    assert stderr.getvalue() == ""


def test_importing_output_is_cheap():
    code = (
        "import sys, mm1cli.output; "
        "sys.exit(bool({'torch', 'rich', 'typer', 'platformdirs'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def screen(answer_: Answer, width: int = 80, terminals: bool = True) -> Stage:
    stage = Stage(terminals=terminals, width=width)
    sample_run.play(stage.sink, answer_)
    return stage


@pytest.mark.parametrize("terminals", [True, False])
def test_stdout_is_the_answer_and_what_carries_it(terminals: bool):
    """Red: `> answers.txt` loses the sources, or gets progress, usage or thinking."""
    stage = screen(sample_run.ANSWER, terminals=terminals)
    stage.sink.close()
    answered, sources, carried, warned = stage.out.split("\n\n")
    assert (" ".join(answered.split("\n")) if terminals else answered) == sample_run.TEXT
    assert "\n[5] papers" in sources
    assert "“The crossing cost 48.2 million cr…” [1][2]" in carried
    assert "“It opened on 21 September 2017, a…” [3][5]" in carried
    assert "no evidence: “Everybody was pleased with it.”" in carried
    assert (
        warned.startswith("warning: the answer says, but nothing that was read") and "3.2" in warned
    )
    assert "read 21" in stage.err and "The minutes give the cost." in stage.err
    assert "[1]" not in stage.err


@pytest.mark.parametrize("value", [{"cost": 48.2}, None])
def test_an_answer_in_json_is_alone_on_stdout(value):
    """Red: `--schema ... | jq` reads sources as JSON, or prose that begins with a bracket loses
    its sources."""
    text = '{"cost": 48.2}'
    stage = Stage()
    stage.sink.token(text)
    stage.sink.citation(citation("quote"))
    stage.sink.answer(dataclasses.replace(answer(text), value=value))
    assert (stage.out == text + "\n") is (value is not None)
    assert ("[1] " in stage.err) is (value is not None)


@pytest.mark.parametrize("width", [20, 40, 80])
def test_claims_fit_a_narrow_terminal(width: int):
    lines = screen(sample_run.ANSWER, width).out.splitlines()
    begins = (at for at, line in enumerate(lines) if line.startswith("“") and "…” [" in line)
    below = lines[next(begins) :]
    assert below and all(cell_width(line) <= width for line in below)
    assert any("[1][2]" in line for line in below) and "no evidence:" in " ".join(below)


def test_not_found_is_no_claim_without_evidence():
    answered = dataclasses.replace(sample_run.NOT_FOUND, claims=(Claim(0, 9, ()),))
    stage = screen(answered)
    assert stage.out.startswith(sample_run.NOT_FOUND.text)
    assert "no evidence" not in stage.out
    assert "\nnot found: these passages come nearest\n" in stage.out
    bare = screen(dataclasses.replace(answered, citations=()))
    assert "nearest" not in bare.out


def test_thinking_ends_before_the_answer_begins():
    """Red: the answer starts in the middle of a line of thought."""
    stage = Stage(terminals=True)
    for piece in ("Let me\nsee", "."):
        stage.sink.thinking(piece)
    assert stage.out == ""
    stage.sink.token("Silt.\n")
    assert stage.err == "Let me\nsee.\n\n" and stage.out == "Silt.\n"


def linked(tmp_path, name: str, size: int, place: Place | None, **changes: object) -> str:
    """What a citation of a file of 5 bytes looks like, on a terminal with colour."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("quote")
    stdout = io.StringIO()
    channel = Channel(stdout, **({"is_terminal": True, "color": True, "width": 80} | changes))
    sink = Terminal(channel, Channel(io.StringIO()), quiet=True)
    one = Document(str(path), "pdf", size, "0", "r", (Block("quote"),))
    sink.manifest(build(Corpus((one,)), [1], 9), show=False)
    sink.citation(citation("quote", path=str(path), locator=Locator("line", 1, 1, place)))
    sink.close()
    return stdout.getvalue()


def test_a_path_is_a_link_to_its_page(tmp_path):
    shown = linked(tmp_path, "ä b%.pdf", 5, Place("page", 1, "ii"))
    opening, closing = r"\x1b\]8;;(file://[^\x1b]+)\x1b\\", r"\x1b\]8;;\x1b\\"
    url = re.search(rf"{opening}\x1b\[1m[^\x1b]*/ä b%\.pdf,\x1b\[0m{closing}", shown)
    assert url and url.group(1).endswith("/%C3%A4%20b%25.pdf#page=2")
    host, _, path = url.group(1).removeprefix("file://").partition("/")
    assert host and Path("/" + unquote(path.partition("#")[0])) == tmp_path / "ä b%.pdf"
    assert "#" not in linked(tmp_path, "a.md", 5, None).split("\x1b\\")[0]


@pytest.mark.parametrize(
    ("size", "changes"),
    [(6, {}), (5, {"color": False}), (5, {"color": False, "is_terminal": False})],
)
def test_no_link_to_another_file_nor_where_none_is_wanted(tmp_path, size: int, changes):
    """Red: a link opens a file that is not the one that was read, or NO_COLOR gets an escape."""
    assert "\x1b]8" not in linked(tmp_path, "a.pdf", size, None, **changes)


def test_what_lies_in_an_archive_has_no_link():
    links = Links(manifest(path="a.zip/b.pdf"))
    assert links.url("a.zip/b.pdf", Locator("line", 1, 1)) is None
    assert links.url("nul\0", Locator("line", 1, 1)) is None


TMUX = shutil.which("tmux")


@pytest.mark.skipif(TMUX is None, reason="tmux is not installed")
def test_a_real_terminal_of_forty_columns(tmp_path):
    """Red: something wraps, or an escape is seen, on a narrow screen."""
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, sample_run\n"
        "from mm1cli.output import make_sink\n"
        "sink = make_sink('text', False)\n"
        "sample_run.play(sink, sample_run.ANSWER)\n"
        "sink.close()\n"
        "print('the end', flush=True); sys.stdin.read()\n"
    )
    path = os.pathsep.join([str(Path(sample_run.__file__).parent), str(Path.cwd())])
    command = f"env -u COLUMNS PYTHONPATH={path} {sys.executable} {program}"
    tmux = [str(TMUX), "-L", f"mm1-{os.getpid()}", "-f", "/dev/null"]
    size = ["-x", "40", "-y", "70"]
    subprocess.run([*tmux, "new-session", "-d", *size, command], check=True, timeout=20)
    try:
        for _ in range(100):
            capture = [*tmux, "capture-pane", "-p"]
            shown = subprocess.run(capture, capture_output=True, text=True, check=True).stdout
            if "the end" in shown:
                break
            time.sleep(0.1)
    finally:
        subprocess.run([*tmux, "kill-server"], check=False, timeout=20)
    lines = [line.rstrip() for line in shown.splitlines()]
    for line in (
        "[2] papers/harbour-crossing-report.pdf,",
        "    │ The final cost is 48.2 million",
        "[5] papers/council-minutes.docx, ¶ 2",
        "    (spacing or letter forms differ)",
        "“The crossing cost 48.2 million…” [1][2]",
        "no evidence: “Everybody was pleased with",
    ):
        assert line in lines, shown
    assert "8;;" not in shown and "\\x1b" not in shown


def test_a_contradicted_claim_is_neither_carried_nor_without_evidence():
    """Red: what a passage denies is shown with a footnote, as if that carried it."""
    start = sample_run.ANSWER.claims[0].start
    contradicted = Claim(start, sample_run.ANSWER.claims[0].end, (1,), (2,))
    claims = (contradicted, *sample_run.ANSWER.claims[1:])
    stage = screen(dataclasses.replace(sample_run.ANSWER, claims=claims))
    below = stage.out[stage.out.index("no evidence:") - 200 : stage.out.index("\nwarning:")]
    assert "“The crossing cost" not in below and "“Everybody was pleased" in below
