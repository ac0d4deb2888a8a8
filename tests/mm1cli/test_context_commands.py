"""Red here means a context is read again for nothing, or answers otherwise once it was saved."""

import json

import pytest
from commandline import ASK, POSITIONS, SHORT

from mm1cli import preread

SECOND = "what did the bridge cost?"


@pytest.fixture(autouse=True)
def keep_small_contexts(monkeypatch):
    monkeypatch.setattr(preread, "FEWEST_SAVED_TOKENS", 16)


def answers(ran):
    return [(one["answer"], one["citations"]) for one in ran.json["answers"]]


def usage(ran):
    return ran.json["answers"][0]["usage"]


@pytest.mark.parametrize("family", ["llama", "minimax"])
def test_analyze_reads_the_same_folder_once(mm1, checkpoints, notes, family):
    run = ("analyze", notes, "--model", checkpoints[family], *SHORT, "--json", "--ask")
    first, second, other = mm1(*run, ASK), mm1(*run, ASK), mm1(*run, SECOND)
    fresh = mm1(*run, SECOND, "--no-cache")
    assert usage(first)["reused_tokens"] == usage(fresh)["reused_tokens"] == 0
    assert usage(second)["reused_tokens"] == usage(other)["reused_tokens"] > 100
    assert answers(first) == answers(second)
    assert answers(other) == answers(fresh)
    listed = mm1("context", "list", "--json").json
    assert len(listed["contexts"]) == 1
    assert listed["contexts"][0]["tokens"] == usage(second)["reused_tokens"]


def test_a_document_that_is_added_leaves_the_others_read(mm1, llama, notes):
    run = ("analyze", notes, "--model", llama, *SHORT, "--chunk-tokens", 16, "--json", "--ask", ASK)
    before = mm1(*run)
    (notes / "zebra.md").write_text("The rat is at the zoo.\n" * 3)
    after = mm1(*run)
    fresh = mm1(*run, "--no-cache")
    reused = usage(after)["reused_tokens"]
    assert 0 < reused < usage(before)["context_tokens"]
    assert answers(after) == answers(fresh)


def test_a_context_answers_without_its_documents(mm1, llama, notes, tmp_path):
    context = tmp_path / "notes.mm1ctx"
    built = mm1("context", "build", notes, "-o", context, "--model", llama, "--json")
    assert built.code == 0
    assert built.json["reused_tokens"] == 0
    whole = mm1("analyze", notes, "--ask", ASK, "--model", llama, *SHORT, "--json", "--no-cache")
    for path in sorted(notes.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    short = SHORT[:2]
    asked = mm1("ask", context, ASK, SECOND, *short, "--json")
    assert asked.code == 0, asked.err
    assert answers(asked)[0] == answers(whole)[0]
    assert usage(asked)["reused_tokens"] == built.json["tokens"]
    swapped = mm1("ask", context, SECOND, "--ask", ASK, *short, "--json")
    assert answers(swapped) == answers(asked)[::-1]
    lines = mm1("ask", context, "-", *short, "--json", stdin=f"{SECOND}\n\n{ASK}\n".encode())
    assert answers(lines) == answers(swapped)


def test_a_context_says_what_it_is_and_is_checked_and_removed(mm1, llama, notes, tmp_path):
    context = tmp_path / "notes.mm1ctx"
    mm1("context", "build", notes, "-o", context, "--model", llama)
    shown = mm1("context", "show", context, "--json").json
    assert [d["path"] for d in shown["documents"]] == [
        "notes/bridge.md",
        "notes/sub/hat.txt",
        "notes/tool.py",
    ]
    assert sum(d["tokens"] for d in shown["documents"]) < shown["tokens"]
    assert mm1("context", "verify", context).code == 0
    segment = min((context / "kv").iterdir())
    content = bytearray(segment.read_bytes())
    content[-1] ^= 1
    segment.write_bytes(content)
    for command in (("context", "verify", context), ("ask", context, ASK)):
        ran = mm1(*command)
        assert (ran.code, ran.out) == (3, "")
        assert "damaged" in ran.err.splitlines()[-1]
    again = mm1("context", "build", notes, "-o", context, "--model", llama, "--json")
    assert again.code == 0 and "damaged" in again.json["why_not_more"]
    assert mm1("context", "verify", context).code == 0
    assert mm1("context", "rm", context).code == 0
    assert not context.exists()


def test_another_model_is_refused_with_the_reason(mm1, checkpoints, notes, tmp_path):
    context = tmp_path / "notes.mm1ctx"
    mm1("context", "build", notes, "-o", context, "--model", checkpoints["llama"])
    ran = mm1("ask", context, ASK, "--model", checkpoints["minimax"])
    assert ran.code == 3
    assert "another model" in ran.err or "another length" in ran.err


def test_what_does_not_fit_is_refused_with_the_largest(mm1, llama, notes, tmp_path):
    room = mm1("tokens", notes, "--model", llama, "--json").json["manifest"]["budget_tokens"]
    arguments = ("context", "build", notes, "-o", tmp_path / "c", "--model", llama)
    ran = mm1(*arguments, "--context-tokens", POSITIONS - room + 100)
    assert ran.code == 4
    assert "notes/bridge.md" in ran.err and "--exclude" in ran.err


def test_the_cache_stays_under_its_limit(mm1, llama, notes):
    run = ("analyze", notes, "--model", llama, *SHORT, "--json", "--ask", ASK)
    mm1(*run)
    size = mm1("context", "list", "--json").json["bytes"]
    (notes / "bridge.md").write_text("Another beginning.\n")
    mm1(*run, "--max-cache", size * 1.5 / 1e9)
    listed = mm1("context", "list", "--json").json["contexts"]
    assert len(listed) == 1
    assert mm1("context", "gc", "--max-cache", 0).code == 0
    assert mm1("context", "list", "--json").json["contexts"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("ask", "nowhere", ASK), 3, "not a finished context"),
        (("ask", "nowhere"), 2, "no question"),
        (("context", "show", "nowhere"), 3, "no such context"),
        (("context", "rm", "nowhere"), 3, "no such context"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(mm1, arguments, code, reason):
    ran = mm1(*arguments)
    assert (ran.code, ran.out) == (code, "")
    assert reason in ran.err
    assert json.dumps(ran.err.strip()).count("\\n") == 0
