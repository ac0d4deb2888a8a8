"""Red here means a streamed model answers otherwise, mixes answers, or is read too often."""

from dataclasses import replace
from itertools import pairwise

import pytest
import sample_run
from commandline import POSITIONS, SHORT, write_files
from patience import ends_here, others_alive

from engine.layers.norm import RMSNorm
from engine.model import Layer, Model
from mm1cli.answering import context_source
from mm1cli.answering.in_order import in_order
from mm1cli.sink import NoteEvent, ProgressEvent, QuestionEvent, Sink, TokenEvent

QUESTIONS = ("where is the rat?", "what did the bridge cost, “1904” or more?", "who sat on it?")
RUNS = {
    "answers": (),
    "retrieval": ("--context-tokens",),  # too few: see `by_retrieval`
    "schema": ("--schema", "name, year int", "--max-tokens", 60),
}


@pytest.fixture(autouse=True)
def keep_small_contexts(monkeypatch):
    monkeypatch.setattr(context_source, "FEWEST_SAVED_TOKENS", 16)


@pytest.fixture
def passes(monkeypatch):
    """How often the layers were gone through since the last call."""
    seen = []
    real = Layer.forward

    def forward(self, hidden, state, start):
        seen.append(self.mixer.layer if hasattr(self.mixer, "layer") else -1)
        return real(self, hidden, state, start)

    def count():
        found = sum(one == 0 != before for before, one in pairwise([-1, *seen]))
        seen.clear()
        return found

    monkeypatch.setattr(Layer, "forward", forward)
    return count


def told(value):
    """All of an event but how long things took."""
    if isinstance(value, dict):
        return {name: told(one) for name, one in value.items() if not name.endswith("_s")}
    return [told(one) for one in value] if isinstance(value, list) else value


def ask(mm1, model, notes, how):
    asked = [part for question in QUESTIONS for part in ("--ask", question)]
    run = ("analyze", notes, "--model", model, *SHORT, "--no-cache", *how, *asked)
    ran = mm1(*run, "--format", "jsonl")
    assert ran.code == 0, ran.err
    return [told(event) for event in ran.events if event["type"] != "progress"]


def by_retrieval(mm1, model, notes):
    """Adds a file; returns a length of context that has no room for all."""
    write_files(notes, {"long.md": "The rat is on a mat far away. " * 60})
    asked = [part for question in QUESTIONS for part in ("--ask", question)]
    run = ("analyze", notes, "--model", model, *SHORT, *asked, "--dry-run", "--json")
    manifest = mm1(*run).json["manifest"]
    return POSITIONS - manifest["budget_tokens"] + manifest["totals"]["tokens"] - 200


@ends_here
@pytest.mark.parametrize("how", RUNS.values(), ids=RUNS)
def test_each_answer_is_told_in_its_order_as_if_asked_alone(
    mm1, checkpoints, notes, monkeypatch, passes, how
):
    """With the quotation mask, with a schema, by retrieval: all events but progress are equal."""
    model = checkpoints["minimax"]
    if how == RUNS["retrieval"]:
        how = (*how, by_retrieval(mm1, model, notes))
    want = ask(mm1, model, notes, how)
    plans = {event["plan"] for event in want if event["type"] == "result"}
    assert plans == {"retrieval" if "--context-tokens" in how else "whole"}
    assert sum(event["type"] == "token" for event in want) > 3 * 3
    num_alone = passes()
    monkeypatch.setattr(Model, "is_streamed", True)
    found = ask(mm1, model, notes, how)
    assert len(found) == len(want)
    for event, wanted in zip(found, want, strict=True):
        assert event == wanted
    assert not others_alive()
    assert passes() < num_alone / 3, "neither questions nor what is judged share a pass"


@ends_here
def test_a_saved_context_is_asked_together_too(mm1, checkpoints, notes, tmp_path, monkeypatch):
    folder, model = tmp_path / "notes.mm1ctx", checkpoints["llama"]
    assert mm1("context", "build", notes, "-o", folder, "--model", model).code == 0
    runs = []
    for is_streamed in (False, True):
        monkeypatch.setattr(Model, "is_streamed", is_streamed)
        runs.append(mm1("ask", folder, *QUESTIONS, *SHORT, "--quiet"))
    assert runs[0].out == runs[1].out
    assert all(f"## {question}" in runs[1].out for question in QUESTIONS)


@ends_here
def test_an_interrupt_stops_all_with_one_line(mm1, checkpoints, notes, monkeypatch):
    monkeypatch.setattr(Model, "is_streamed", True)
    real, count = RMSNorm.forward, []

    def forward(self, x):
        count.append(1)
        if len(count) == 200:
            raise KeyboardInterrupt
        return real(self, x)

    monkeypatch.setattr(RMSNorm, "forward", forward)
    asked = [part for question in QUESTIONS for part in ("--ask", question)]
    ran = mm1("analyze", notes, "--model", checkpoints["minimax"], *SHORT, *asked)
    assert ran.code == 130
    assert "interrupted" in ran.err
    assert not others_alive()


class Emitted(Sink):
    def __init__(self):
        self.events = []

    def emit(self, event):
        self.events.append(event)


def result(text):
    return replace(sample_run.ANSWER, text=text)


def test_who_has_not_the_turn_waits_and_its_progress_does_not():
    sink = Emitted()
    first, second, third = in_order(sink, ["a?", "b?", "c?"])
    second.token("b1")
    third.progress("judging", 1, 2, "passages")
    first.token("a1")
    third.answer(result("c!"))
    first.progress("judging", 1, 2, "passages")
    second.note("of b")
    first.answer(result("a!"))
    second.token("b2")
    second.answer(result("b!"))
    assert sink.events == [
        QuestionEvent("a?", 0, 3),
        TokenEvent("a1"),
        ProgressEvent("judging", 1, 2, "passages"),
        result("a!"),
        QuestionEvent("b?", 1, 3),
        TokenEvent("b1"),
        NoteEvent("of b"),
        TokenEvent("b2"),
        result("b!"),
        QuestionEvent("c?", 2, 3),
        result("c!"),
    ]
