"""`mm1` from the outside: what goes in, what comes out on which stream."""

import io
import json
from pathlib import Path

import pytest
from commandline import ASK, FAMILIES, POSITIONS, SHORT, start, write_files
from reportlab.pdfgen.canvas import Canvas

from mm1cli.output.text import safe

HEAVY = ("torch", "numpy", "engine.engine", "rich.live", "rich.table", "pypdf", "docx")


@pytest.mark.parametrize("family", FAMILIES)
def test_stdout_is_the_answer_and_stderr_everything_else(mm1, checkpoints, notes, family: str):
    """Red: a pipe gets the answer without its sources, or more than both; with --answer-only more
    or less than the answer."""
    arguments = ("analyze", notes, "--ask", ASK, "--model", checkpoints[family], *SHORT)
    plain = mm1(*arguments)
    bare = mm1(*arguments, "--answer-only")
    told = mm1(*arguments, "--json")
    assert plain.code == told.code == bare.code == 0
    answer = told.json["answer"]
    assert answer.strip() and bare.out.rstrip("\n") == safe(answer).rstrip("\n")
    assert plain.out.startswith(bare.out) and "\n[1] " in plain.out
    assert "photo.png" in plain.err and "12 tokens" in plain.err
    assert "[1] " not in plain.err and "[1] " in bare.err


def test_json_says_what_was_asked_read_cited_and_spent(mm1, llama, notes):
    """Red: scripts that read --json break, or a file is not accounted for."""
    ran = mm1("analyze", notes, "--ask", ASK, "--model", llama, *SHORT, "--json", "--seed", 3)
    told = ran.json
    assert told["schema_version"] == 1
    assert (told["command"], told["model"]) == ("analyze", str(llama))
    (answer,) = told["answers"]
    assert {name: answer[name] for name in ("question", "answer", "citations", "usage")} == {
        name: told[name] for name in ("question", "answer", "citations", "usage")
    }
    assert answer["question"] == ASK
    assert (answer["plan"], answer["seed"], answer["stop_reason"]) == ("whole", 3, "max tokens")
    assert len(answer["model_fingerprint"]) == 64
    assert isinstance(answer["unverified"], list)

    files = {Path(file["path"]).name: file for file in told["manifest"]["files"]}
    assert {name: file["reason"] for name, file in files.items()} == {
        "bridge.md": None,
        "hat.txt": None,
        "tool.py": None,
        "photo.png": "format not supported",
        ".hidden": "hidden",
    }
    totals = told["manifest"]["totals"]
    assert totals == {
        "seen": 5,
        "read": 3,
        "left_out": 2,
        "tokens": sum(file["tokens"] for file in files.values()),
    }
    usage = answer["usage"]
    assert usage["corpus_tokens"] == usage["read_tokens"] == totals["tokens"]
    assert usage["context_tokens"] > usage["read_tokens"]
    assert (usage["reused_tokens"], usage["output_tokens"]) == (0, 12)
    assert [(part["path"], part["locator"], part["tokens"]) for part in answer["read"]] == [
        (file["path"], None, file["tokens"])
        for file in told["manifest"]["files"]
        if file["reason"] is None
    ]


def test_citations_are_verbatim_and_their_lines_hold_them(mm1, llama, notes):
    """Red: evidence cannot be looked up."""
    ran = mm1("analyze", notes, "--ask", ASK, "--model", llama, *SHORT, "--json")
    citations = ran.json["citations"]
    assert [citation["number"] for citation in citations] == list(range(1, len(citations) + 1))
    assert citations
    for citation in citations:
        lines = Path(citation["path"]).read_text().splitlines()
        locator = citation["locator"]
        assert citation["text"] in "\n".join(lines[locator["first"] - 1 : locator["last"]])
        assert citation["status"] == "exact" and citation["score"] <= 0
    scores = [citation["score"] for citation in citations]
    assert scores == sorted(scores, reverse=True)


def test_events_come_in_order_and_their_tokens_are_the_answer(mm1, llama, notes):
    """Red: a program that follows the run sees another answer than the user."""
    ran = mm1("analyze", notes, "--ask", ASK, "--model", llama, *SHORT, "--format", "jsonl")
    events = ran.events
    assert all(event["schema_version"] == 1 for event in events)
    kinds = [event["type"] for event in events]
    assert kinds[0] == "init" and kinds[-1] == "result"
    order = ["init", "manifest", "question", "token", "citation", "result"]
    assert [kind for kind in dict.fromkeys(kinds) if kind in order] == order
    (result,) = (event for event in events if event["type"] == "result")
    assert "".join(e["text"] for e in events if e["type"] == "token") == result["answer"]
    cited = [e for e in events if e["type"] == "citation"]
    assert [e["text"] for e in cited] == [c["text"] for c in result["citations"]]
    stages = {e["stage"] for e in events if e["type"] == "progress"}
    assert {"reading", "loading model", "prefill"} <= stages
    assert ran.err == ""


def test_a_dash_reads_standard_input_beside_files(mm1, llama, notes):
    """Red: `git diff | mm1 analyze -` reads nothing."""
    ran = mm1("tokens", "-", notes / "bridge.md", "--model", llama, "--json", stdin=b"a rat ran\n")
    by_path = {file["path"]: file for file in ran.json["manifest"]["files"]}
    assert set(by_path) == {"stdin", str(notes / "bridge.md")}
    assert by_path["stdin"]["num_bytes"] == len(b"a rat ran\n")
    assert by_path["stdin"]["tokens"] > 0
    ran = mm1("analyze", "-", "--ask", ASK, "--model", llama, *SHORT, "--json", stdin=b"A rat ran.")
    assert [citation["text"] for citation in ran.json["citations"]] == ["A rat ran."]


def test_the_same_run_twice_says_the_same(mm1, llama, notes):
    """Red: greedy answers, or seeded ones, cannot be reproduced."""
    for extra in ((), ("--temperature", 1.5, "--seed", 7)):
        arguments = ("analyze", notes, "--ask", ASK, "--model", llama, *SHORT, *extra)
        first, second = mm1(*arguments), mm1(*arguments)
        assert first.out == second.out != "\n"
    other = mm1(*arguments[:-1], 8)
    assert other.out != first.out, "another seed draws another answer"


def test_a_corpus_that_does_not_fit_is_read_by_retrieval_and_the_run_says_so(mm1, llama, notes):
    """Red: part of the input is left out of the context in silence."""
    write_files(notes, {"long.md": "The rat is on a mat far away. " * 200})
    common = ("--ask", ASK, "--model", llama, *SHORT)
    counted = mm1("analyze", notes, *common, "--dry-run", "--json").json
    frame = POSITIONS - counted["manifest"]["budget_tokens"]
    small = ("--context-tokens", frame + 1200)
    ran = mm1("analyze", notes, *common, *small)
    assert ran.code == 0 and "by retrieval" in ran.err
    told = mm1("analyze", notes, *common, *small, "--json").json
    assert told["manifest"]["plan"] == told["answers"][0]["plan"] == "retrieval"
    assert told["manifest"]["fits"] is False
    assert any("retrieval" in note for note in told["notes"])
    parts, usage = told["answers"][0]["read"], told["usage"]
    assert parts and all(part["locator"] is not None for part in parts)
    assert usage["read_tokens"] == sum(part["tokens"] for part in parts) < usage["corpus_tokens"]
    assert usage["context_tokens"] + 12 <= frame + 1200
    whole = mm1("analyze", notes, *common, "--json").json
    assert whole["manifest"]["plan"] == whole["answers"][0]["plan"] == "whole"
    assert whole["usage"]["read_tokens"] == whole["usage"]["corpus_tokens"]


def test_several_questions_are_headed_and_none_is_lost(mm1, llama, notes):
    """Red: the reader cannot tell which answer belongs to which question."""
    asks = ("--ask", "what is a hat?", "--ask", ASK)
    ran = mm1("analyze", notes, *asks, "--model", llama, "--max-tokens", 4)
    assert [line for line in ran.out.splitlines() if line.startswith("## ")] == [
        "## what is a hat?",
        f"## {ASK}",
    ]


def test_quiet_leaves_the_answer_and_its_evidence(mm1, llama, notes):
    """Red: --quiet still chats, or hides the evidence."""
    ran = mm1("analyze", notes, "--ask", ASK, "--model", llama, *SHORT, "--quiet")
    assert ran.out.strip() and "[1] " in ran.out
    assert not any(word in ran.err for word in ("note:", "model reads", "seen ="))


def test_settings_come_from_the_project_file_and_flags_win(mm1, llama, notes):
    """Red: mm1.toml is not read."""
    Path("mm1.toml").write_text(f'model = "{llama}"\nmax_tokens = 3\nthreads = 1\n')
    ignored = mm1("tokens", notes)
    assert ignored.err.count("model, threads in it do not hold") == 1
    shown = mm1("config", "trust", ".")
    assert (shown.code, shown.out.splitlines()[1:3]) == (0, ["max_tokens = 3", "threads = 1"])
    told = mm1("analyze", notes, "--ask", ASK, "--json").json
    assert told["usage"]["output_tokens"] == 3
    told = mm1("analyze", notes, "--ask", ASK, "--json", "--max-tokens", 2).json
    assert told["usage"]["output_tokens"] == 2


@pytest.mark.parametrize("command", [("tokens",), ("analyze", "--dry-run")])
def test_counting_needs_no_weights(mm1, llama, notes, tmp_path, command):
    """Red: a dry run takes as long, and as much memory, as a run."""
    model = write_files(tmp_path / "m", {f.name: f.read_bytes() for f in llama.glob("*.json")})
    counted = mm1(*command, notes, "--model", model)
    assert counted.code == 0 and counted.err == ""
    assert "5 seen = 3 read + 2 left out" in counted.out
    (model / "model.safetensors").write_bytes(b"damaged")
    told = mm1(*command, notes, "--model", model, "--json").json
    assert told["command"] == command[0] and told["answers"] == []
    assert told["manifest"]["totals"]["tokens"] > 0


def imported(*arguments: object) -> set[str]:
    """The modules of `HEAVY` that `mm1 ARGS` imports, in a process of its own."""
    code = (
        "import atexit, sys, json\n"
        f"heavy = {HEAVY!r}\n"
        "atexit.register(lambda: sys.stderr.write(json.dumps([n for n in heavy"
        " if n in sys.modules])))\n"
        "from mm1cli.__main__ import main; main()"
    )
    with start(*arguments, program=code) as process:
        _, err = process.communicate(timeout=60)
    return set(json.loads(err.splitlines()[-1]))


def test_help_imports_nothing_that_is_slow():
    """Red: `mm1 --help` takes seconds."""
    assert imported("--help") == set()


def test_counting_imports_no_torch(llama, notes):
    """Red: `mm1 tokens` takes seconds to start."""
    assert "torch" not in imported("tokens", notes, "--model", llama)


def test_a_process_of_its_own_does_as_in_this_one(mm1, llama, notes):
    """Red: the streams are mixed up by what only a real process has."""
    arguments = ("analyze", notes, "--ask", ASK, "--model", llama, *SHORT)
    with start(*arguments) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out == mm1(*arguments).out
    assert "[1] " in out and "Traceback" not in err


def test_what_is_read_can_be_chosen_listed_and_limited(mm1, llama, notes):
    """Red: an option is taken and does nothing."""
    model = ("--model", llama, "--json")

    def read(*arguments, stdin=None):
        ran = mm1("tokens", *arguments, *model, stdin=stdin)
        assert ran.code == 0, ran.err
        files = ran.json["manifest"]["files"]
        return {Path(file["path"]).name: file["reason"] for file in files}

    assert read(notes, "--include", "*.py")["hat.txt"] == "excluded"
    assert read(notes, "--exclude", "sub/")["sub"] == "excluded"
    listed = f"{notes}/tool.py\0{notes}/bridge.md\0".encode()
    assert read("--files-from", "-", "-0", stdin=listed) == {"tool.py": None, "bridge.md": None}
    write_files(notes, {"key.txt": "AKIA" + "Q3EGU7KJ2MZXV5TB\n"})
    assert read(notes)["key.txt"] == "holds a secret"
    assert read(notes, "--allow-secrets")["key.txt"] is None


def test_what_does_not_fit_is_dropped_only_by_a_stated_policy(mm1, llama, notes):
    """Red: files go in silence, or a policy is not followed."""
    write_files(notes, {"large.txt": "the rat sat on the mat. " * 3000})
    arguments = ("tokens", notes, "--model", llama, "--context-tokens", 6000, "--json")
    focus = mm1(*arguments).json["manifest"]
    assert (focus["fit"], focus["fits"], focus["plan"]) == ("focus", False, "retrieval")
    failed = mm1(*arguments, "--fit", "fail")
    assert failed.code == 4
    assert "large.txt" in failed.json["error"]["message"]
    assert "--exclude" in failed.json["error"]["message"]
    dropped = mm1(*arguments, "--fit", "drop-largest").json
    assert dropped["manifest"]["fits"] and dropped["manifest"]["fit"] == "drop-largest"
    reasons = {Path(f["path"]).name: f["reason"] for f in dropped["manifest"]["files"]}
    assert reasons["large.txt"] == "dropped by --fit" and reasons["bridge.md"] is None
    assert any("drop-largest keeps" in note for note in dropped["notes"])
    head = mm1(*arguments, "--fit", "head").json["manifest"]
    assert head["fits"]
    assert mm1(*arguments, "--fit", "head", "--strict").code == 5


def test_ocr_without_tesseract_is_one_line_before_anything_is_read(mm1, llama, notes, monkeypatch):
    """Red: the user waits for a run that could never do what was asked."""
    monkeypatch.setenv("PATH", "")
    ran = mm1("tokens", notes, "--ocr", "--model", llama)
    assert ran.code == 2
    assert ran.err == (
        "error: --ocr needs tesseract or ocrmypdf, and neither is installed; install one, or go "
        "without\n"
    )


def test_the_cache_is_where_the_user_wants_it_or_nowhere(mm1, llama, notes, tmp_path, monkeypatch):
    """Red: text of private documents is left where nobody looks for it."""
    output = io.BytesIO()
    canvas = Canvas(output, invariant=1)
    canvas.drawString(72, 700, "the rat")
    canvas.save()
    write_files(notes, {"a.pdf": output.getvalue()})
    kept = tmp_path / "kept"
    monkeypatch.setenv("MM1_CACHE_DIR", str(kept))
    assert mm1("tokens", notes, "--model", llama, "--no-cache").code == 0
    assert not kept.exists()
    first = mm1("tokens", notes, "--model", llama, "--json")
    (entry,) = kept.glob("text/*/*.json")
    assert entry.stat().st_mode & 0o077 == 0
    assert mm1("tokens", notes, "--model", llama, "--json").json == first.json
