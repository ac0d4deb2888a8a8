"""Tools a model may call while it answers: exact, bounded, and never a way to other files."""

import json

import pytest
from commandline import ASK
from described import check_event

from engine.api import Markers
from engine.engine import Engine
from mm1cli.errors import InputError
from mm1cli.ingest.corpus import Block, Corpus, Document
from mm1cli.tools.calculator import calculate, equation, operands, written_at_end
from mm1cli.tools.corpus_tools import CorpusTools
from mm1cli.tools.formats import Call, ToolFormat
from mm1cli.tools.toolbox import NAMES, Toolbox, chosen

CORPUS = Corpus(
    (
        Document("a.txt", "text", 1, "0", "r", (Block("one rat\ntwo rats\nno cat"),)),
        Document("b.txt", "text", 1, "0", "r", (Block("a bridge"),)),
    )
)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("0.1 + 0.2", "0.3"),
        ("(48.2 - 45) / 45 * 100", "7.1111111111111111111111111111111111111111111111111"),
        ("2 ^ 10", "1024"),
        ("round(2/3, 2)", "0.67"),
        ("sum(1, 2, 3.50)", "6.5"),
        ("days(date(2024,3,1), date(2024,12,24))", "298"),
        ("'2024-02-28' + 2", "2024-03-01"),
        ("add_months(date(2024,1,31), 1)", "2024-02-29"),
        ("48.2 > 45", "true"),
    ],
)
def test_arithmetic_is_exact(expression: str, value: str):
    """Red: an answer is off by what floats are off by."""
    assert calculate(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os')", "a + 1", "9**9**9", "10**500", "1/0", "''", "(" * 600, "1 if 1 else 2",
        "date(2024,1,1) * 2", "[1,2]", "sqrt(-1)", "'x' * 10**9", "", "date(1)", "abs()",
    ],
)  # fmt: skip
def test_nothing_but_arithmetic_is_computed(expression: str):
    """Red: a calculation runs code, hangs, or ends the run."""
    with pytest.raises(InputError):
        calculate(expression)


def box(most_calls: int = 8, **more) -> Toolbox:
    return Toolbox(chosen(NAMES, CorpusTools(CORPUS)), most_calls=most_calls, **more)


def test_documents_are_searched_opened_and_counted():
    tools = box()
    assert "a.txt" in tools.use(Call("search", {"query": "rats"})).result
    assert tools.use(Call("open", {"path": "a.txt", "first": 2, "last": 2})).result == "two rats"
    counted = tools.use(Call("count", {"words": "rat"})).result
    assert counted == "1 in all. a.txt: 1. Never in: b.txt"


def test_what_is_wrong_with_a_call_is_told_to_the_model():
    """Red: a model's slip ends the run, or a call reaches what was not given."""
    tools = box()
    for call in (
        Call("open", {"path": "/etc/passwd"}),
        Call("rm", {}),
        Call("calc", {}),
        Call("calc", {"expression": 7}),
        Call("search", {"query": "x", "where": "/"}),
    ):
        assert tools.use(call).is_error, call
    assert box(approve=lambda _: False).use(Call("calc", {"expression": "1"})).is_error


def test_the_same_call_twice_and_too_many_calls_end_it():
    """Red: a model that goes in circles never answers."""
    tools = box()
    call, other = (Call("calc", {"expression": text}) for text in ("1+1", "2+2"))
    assert not tools.use(call).is_error
    assert tools.use(call).is_error and "no more calls" in tools.use(other).result
    tools = box(most_calls=1)
    tools.use(call)
    assert "no more calls" in tools.use(other).result


def test_what_was_computed_from_is_told_but_for_plain_constants():
    """Red: an invented number is believed once something was computed from it, or 12 months need a
    source."""
    assert operands("(48.2 - 45) / 45 * 100") == ["48.2", "45", "45"]
    assert operands("days(date(2024,3,1), '2024-12-24') / 7") == ["2024-03-01", "2024-12-24"]


def test_a_call_without_its_marker_is_one_too():
    """Red: a model that was seldom shown the marker gives JSON for an answer."""
    format = ToolFormat(Markers("<tool_call>", "</tool_call>"))
    assert '"name": "calc"' in format.begins(["calc"]) and "<tool_call>" in format.begins([])
    for begun in ("{", "```json\n{\n  ", "<tools>\n{", "[{"):
        assert format.before_call(f"I compute. {begun}").strip() == "I compute."
    assert format.before_call("It is {x}.") == "It is {x}."


class Scripted:
    """A decoding that says what it is told to."""

    num_drafted = num_accepted = 0

    def __init__(self, text: str, reason: str, ids: list[int]) -> None:
        self._text, self.stop_reason, self.token_ids = text, reason, ids

    def __iter__(self):
        yield self._text


@pytest.mark.parametrize(
    ("expression", "told", "unverified"),
    [("48.2 / 2", "24.1", []), ("48.2 - 43.8", "4.4", ["4.4 crowns", "43.8", "4.4"])],
)
def test_a_model_calls_reads_and_answers_with_the_result_as_a_source(
    expression, told, unverified, mm1, llama, notes, monkeypatch
):
    """Red: a call is shown as the answer, its result is no source and cannot be quoted, a computed
    number is called invented, or one is not that was computed from an invented one."""
    answer = f'It is {told} crowns, as "{expression} = {told}".'
    script = iter([("```json\n{", "stop text"), ("CALL", "end"), (answer, "end")])
    call = json.dumps({"name": "calc", "arguments": {"expression": expression}})

    def decode(self, context, **options):
        text, reason = next(script)
        if text == "CALL":
            assert options["constraint"] is not None, "the grammar holds the call"
            text = call
        return Scripted(text, reason, self.tokenizer.encode(text))

    monkeypatch.setattr(Engine, "decode", decode)
    common = ("analyze", notes, "--ask", ASK, "--model", llama, "--tool", "calc")
    ran = mm1(*common, "--format", "jsonl")
    (used,) = [event for event in ran.events if event["type"] == "tool"]
    check_event(used)
    assert used["result"] == f"{expression} = {told}" and not used["is_error"]
    result = ran.events[-1]
    assert result["answer"] == answer and result["unverified"] == unverified
    quote, source = result["citations"][-2:]
    assert (quote["kind"], source["kind"]) == ("quote", "tool")
    assert quote["text"] == source["text"] == used["result"]
    assert quote["path"] == source["path"] and expression in source["path"]
    tokens = "".join(event["text"] for event in ran.events if event["type"] == "token")
    assert tokens == result["answer"]


def test_a_sum_that_is_written_down_is_worked_out(mm1, llama, notes, monkeypatch):
    """Red: what a model computes in its head stands, or a mark that is no sum ends the answer."""
    pieces = [("So x ", "= y; 48.2 / 2 "), ("= y; 48.2 / 2 ", "= 9"), (" crowns.", "")]

    def decode(self, context, **options):
        text, after = pieces.pop(0)
        written = Scripted(text.removeprefix("="), "stop text" if after else "end", [])
        written.token_ids = self.tokenizer.encode(text.removeprefix("=") + after[:1])
        return written

    monkeypatch.setattr(Engine, "decode", decode)
    common = ("analyze", notes, "--ask", ASK, "--model", llama, "--tool", "calc")
    ran = mm1(*common, "--json")
    assert ran.json["answer"] == "So x = y; 48.2 / 2 = 24.1 crowns.", ran.err
    (answer,) = ran.json["answers"]
    assert answer["unverified"] == [] and answer["citations"][-1]["text"] == "48.2 / 2 = 24.1"
    for text, found in [
        ("it is £1,101,000 - £1,093,000 ", "1101000 - 1093000"),
        ("(296,500 - 271,000) / 271,000", "(296500 - 271000) / 271000"),
        ("on 2020-08-19", ""),
        ("x", ""),
    ]:
        assert written_at_end(text) == found
    assert equation("2 / 3") == "2 / 3 ≈ 0.666666666667"


def test_no_file_enables_a_tool_and_an_unknown_one_is_refused(mm1, llama, notes):
    (notes / "mm1.toml").write_text('tool = "calc"\n')
    ran = mm1("analyze", notes, "--ask", ASK, "--model", llama, "--tool", "shell")
    assert ran.code == 2 and "calc, search, open, count" in ran.err
    ran = mm1("analyze", notes, "--ask", ASK, "--model", llama, "--tool", "calc", "--tool-approve")
    assert ran.code == 2 and "on the terminal" in ran.err
