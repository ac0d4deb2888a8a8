import dataclasses
import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm1cli import output
from mm1cli.ingest.corpus import Block, Corpus, Document, Locator, Omission, Place, Reason
from mm1cli.ingest.manifest import Manifest, ReadingPlan, build
from mm1cli.output.events import JsonLines, JsonObject, plain, write_line
from mm1cli.output.terminal import Terminal
from mm1cli.output.text import Channel
from mm1cli.result import Answer, Citation, CitationStatus, PassageRead, Usage
from mm1cli.sink import SCHEMA_VERSION, RunInfo, Sink

RUN = RunInfo("analyze", "mini")
USAGE = Usage(12_044, 3_912, 4_190, 7, 42, 9.1, 2.0, 11.2)
CITATION = Citation(
    1,
    "report.pdf",
    Locator("line", 3, 4, Place("page", 1, "ii")),
    "“silt”",
    CitationStatus.NORMALISED,
    -1.5,
)
EXPECTED_CITATION = {
    "number": 1,
    "path": "report.pdf",
    "locator": {
        "unit": "line",
        "first": 3,
        "last": 4,
        "place": {"kind": "page", "index": 1, "label": "ii"},
        "headings": [],
        "columns": None,
        "mark": "",
        "source_start": None,
        "source_end": None,
        "display": "p. ii",
    },
    "text": "“silt”",
    "status": "normalised",
    "score": -1.5,
    "kind": "evidence",
    "block": None,
    "start": None,
    "end": None,
    "gain": None,
    "attention": None,
    "caption": "",
}
NOT_READ = [
    {"path": "b", "reason": "empty", "detail": "", "tokens": None},
    {"path": "a.md", "reason": "not chosen", "detail": "", "tokens": 11},
]
any_text = st.text(st.characters(codec=None)) | st.text(
    st.sampled_from('"\\\x00\x1b\x7f\x85\x9b\u2028\u202e😀é\ud83d\ude00\udc80\n\r')
)


def carried(text: str) -> str:
    """What UTF-8 can carry of `text`."""
    return text.encode("utf-8", "backslashreplace").decode()


def answer(text: str, question: str = "Why?") -> Answer:
    return Answer(
        question,
        text,
        (CITATION,),
        USAGE,
        ReadingPlan.RETRIEVAL,
        "stop",
        5,
        model_fingerprint="abc123",
        read=(PassageRead("report.pdf", None, 3_912),),
        unverified=("1905",),
    )


def manifest() -> Manifest:
    document = Document("a.md", "text", 10, "0" * 64, "reader", (Block("x"),), ("odd",))
    return build(Corpus((document,), (Omission("b", Reason.EMPTY),)), [11], 100)


class Stage:
    def __init__(self, kind: type[JsonObject] | type[JsonLines], encoding: str = "utf-8"):
        self._raw = io.BytesIO()
        self.stderr = io.StringIO()
        stdout = Channel(io.TextIOWrapper(self._raw, encoding=encoding, newline=""))
        stderr = Channel(self.stderr)
        self.sink: Sink = kind(stdout, Terminal(stderr, stderr, progress_after_s=0.0))
        self.encoding = encoding

    @property
    def out(self) -> str:
        return self._raw.getvalue().decode(self.encoding)

    @property
    def one(self) -> dict:
        assert self.out.count("\n") == 1
        return json.loads(self.out, parse_constant=lambda name: pytest.fail(name))

    @property
    def events(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines()]


def play(sink: Sink, texts: list[str]) -> None:
    sink.init(RUN)
    sink.manifest(manifest(), show=False)
    sink.note("before")
    for index, text in enumerate(texts):
        sink.question(f"Q{index}", index, len(texts))
        sink.progress("prefill", 0, 10, "tokens")
        sink.progress("prefill", 10, 10, "tokens")
        sink.note(f"about {index}")
        for char in text:
            sink.token(char)
        sink.citation(CITATION)
        sink.answer(answer(text, f"Q{index}"))
    sink.close()


def test_one_object_with_everything_in_it():
    stage = Stage(JsonObject)
    play(stage.sink, ["Silt."])
    expected_usage = dataclasses.asdict(USAGE)
    assert stage.one == {
        "schema_version": 1,
        "command": "analyze",
        "model": "mini",
        "manifest": json.loads(json.dumps(manifest().as_json())),
        "answers": [
            {
                "question": "Q0",
                "answer": "Silt.",
                "citations": [EXPECTED_CITATION],
                "usage": expected_usage,
                "plan": "retrieval",
                "stop_reason": "stop",
                "seed": 5,
                "model_fingerprint": "abc123",
                "read": [{"path": "report.pdf", "locator": None, "tokens": 3_912}],
                "unverified": ["1905"],
                "claims": [],
                "is_found": True,
                "value": None,
                "thinking": "",
                "words": "",
                "form": "written",
                "warnings": [],
                "computed": [],
                "not_read": NOT_READ,
                "notes": ["about 0"],
            }
        ],
        "question": "Q0",
        "answer": "Silt.",
        "citations": [EXPECTED_CITATION],
        "usage": expected_usage,
        "not_read": NOT_READ,
        "notes": ["before", "about 0"],
    }
    assert stage.stderr.getvalue() == (
        "note: before\nmodel reads 100 % 10 of 10 tokens\nnote: about 0\n"
    )


def test_what_was_not_read_is_said_of_each_answer():
    """Red: a script takes an answer from a part for an answer from the whole."""
    for plan, read, expected in (
        (ReadingPlan.WHOLE, (), NOT_READ[:1]),
        (ReadingPlan.RETRIEVAL, (PassageRead("a.md", None, 11),), NOT_READ[:1]),
        (
            ReadingPlan.RETRIEVAL,
            (PassageRead("a.md", None, 4), PassageRead("a.md", None, 2)),
            [NOT_READ[0], {**NOT_READ[1], "reason": "read in part", "tokens": 5}],
        ),
    ):
        stage = Stage(JsonObject)
        stage.sink.manifest(manifest(), show=False)
        stage.sink.answer(dataclasses.replace(answer("Silt."), plan=plan, read=read))
        stage.sink.close()
        assert stage.one["not_read"] == expected


def test_thinking_is_told_apart_from_the_answer():
    lines, whole = Stage(JsonLines), Stage(JsonObject)
    for stage in (lines, whole):
        stage.sink.thinking("Let me see.")
        stage.sink.token("Silt.")
        stage.sink.answer(dataclasses.replace(answer("Silt."), thinking="Let me see."))
        stage.sink.close()
    assert [event["type"] for event in lines.events] == ["thinking", "token", "result"]
    assert (whole.one["answer"], whole.one["answers"][0]["thinking"]) == ("Silt.", "Let me see.")


def test_several_answers_are_only_in_the_list():
    stage = Stage(JsonObject)
    play(stage.sink, ["one", "two"])
    assert [entry["answer"] for entry in stage.one["answers"]] == ["one", "two"]
    assert [entry["notes"] for entry in stage.one["answers"]] == [["about 0"], ["about 1"]]
    assert not {"question", "answer", "citations", "usage"} & set(stage.one)


def test_nothing_is_on_stdout_before_close():
    stage = Stage(JsonObject)
    stage.sink.init(RUN)
    stage.sink.token("x")
    stage.sink.answer(answer("x"))
    assert stage.out == ""


def test_an_early_error_is_the_whole_object():
    stage = Stage(JsonObject)
    stage.sink.error("no such file: x", 3)
    stage.sink.close()
    assert stage.one == {
        "schema_version": 1,
        "error": {"message": "no such file: x", "exit_code": 3},
    }
    assert stage.stderr.getvalue() == "error: no such file: x\n"


def test_an_error_after_an_answer_keeps_the_answer():
    stage = Stage(JsonObject)
    stage.sink.init(RUN)
    stage.sink.answer(answer("Silt."))
    stage.sink.error("input was left out", 5)
    stage.sink.close()
    assert stage.one["error"]["exit_code"] == 5
    assert stage.one["answer"] == "Silt."


@given(any_text)
def test_any_answer_survives_the_object(text: str):
    stage = Stage(JsonObject)
    play(stage.sink, [text])
    assert stage.one["answer"] == carried(text)
    assert stage.one["answers"][0]["answer"] == carried(text)
    assert stage.out.rstrip("\n").isprintable() or not text.isprintable()
    assert not set(stage.out.rstrip("\n")) & set(map(chr, [*range(32), *range(127, 160), 0x202E]))


@given(any_text)
def test_the_tokens_of_the_lines_are_the_answer(text: str):
    stage = Stage(JsonLines)
    play(stage.sink, [text])
    events = stage.events  # splitlines: no event may hold any of its line breaks raw
    assert all(event["schema_version"] == SCHEMA_VERSION for event in events)
    tokens = [event["text"] for event in events if event["type"] == "token"]
    assert "".join(tokens) == carried(text)
    (result,) = (event for event in events if event["type"] == "result")
    assert result["answer"] == carried(text)


def test_the_lines_come_as_things_happen():
    stage = Stage(JsonLines)
    play(stage.sink, ["ab"])
    stage.sink.error("stopped", 130)
    events = stage.events
    assert [event.pop("type") for event in events] == [
        "init", "manifest", "note", "question", "progress", "progress", "note",
        "token", "token", "citation", "result", "error",
    ]  # fmt: skip
    assert all(event.pop("schema_version") == 1 for event in events)
    assert events[0] == {
        "command": "analyze",
        "model": "mini",
    }
    assert events[1] == json.loads(json.dumps(manifest().as_json()))
    assert events[3] == {"question": "Q0", "index": 0, "count": 1}
    assert events[5] == {"stage": "prefill", "done": 10, "total": 10, "unit": "tokens"}
    assert events[9] == EXPECTED_CITATION
    assert events[10]["citations"] == [EXPECTED_CITATION]
    assert events[11] == {"message": "stopped", "exit_code": 130}
    assert stage.stderr.getvalue() == "error: stopped\n"


def test_thinking_is_an_event_and_never_in_the_answer():
    """Red: a program that joins tokens gets the model's thinking with them."""
    lines, one = Stage(JsonLines), Stage(JsonObject)
    for stage in (lines, one):
        stage.sink.thinking("why not")
        stage.sink.token("x")
    assert [(event["type"], event["text"]) for event in lines.events] == [
        ("thinking", "why not"),
        ("token", "x"),
    ]
    one.sink.close()
    assert "why not" not in one.out and "why not" in one.stderr.getvalue()


def test_each_line_is_out_before_the_call_returns():
    stage = Stage(JsonLines)
    stage.sink.token("x")
    assert stage.events[0]["text"] == "x"


@pytest.mark.parametrize("kind", [JsonObject, JsonLines])
def test_an_ascii_stdout_still_gets_json(kind: type[JsonObject] | type[JsonLines]):
    stage = Stage(kind, encoding="ascii")
    stage.sink.answer(answer("é港😀"))
    stage.sink.close()
    assert json.loads(stage.out)["answer"] == "é港😀"


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_lacks_is_null(score: float):
    stage = Stage(JsonLines)
    stage.sink.citation(dataclasses.replace(CITATION, score=score))
    assert stage.events[0]["score"] is None


def test_what_has_no_json_form_is_a_bug_not_a_guess():
    with pytest.raises(TypeError, match="set has no JSON form"):
        plain({"a": {1}})


def test_a_locator_says_how_it_reads():
    out = io.StringIO()
    write_line(Channel(out), Locator("paragraph", 2, 2))
    assert json.loads(out.getvalue())["display"] == "¶ 2"


@pytest.mark.parametrize("format", ["text", "json", "jsonl"])
@pytest.mark.parametrize("quiet", [True, False])
def test_make_sink_speaks_each_format(
    format: output.Format, quiet: bool, capsys: pytest.CaptureFixture[str]
):
    sink = output.make_sink(format, quiet)
    play(sink, ["Silt."])
    captured = capsys.readouterr()
    if format == "text":
        assert captured.out.startswith("Silt.\n\n[1] ")
        assert ("note: before" in captured.err) is not quiet
    elif format == "json":
        assert json.loads(captured.out)["answer"] == "Silt."
        assert ("note: before" in captured.err) is not quiet
    else:
        kinds = {json.loads(line)["type"] for line in captured.out.splitlines()}
        assert {"init", "manifest", "note", "token", "result"} <= kinds
        assert ("progress" in kinds) is not quiet
        assert captured.err == ""
