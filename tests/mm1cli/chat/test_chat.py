"""`mm1 chat` and the log of answers, on a tiny random model."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from commandline import ASK, start

from mm1cli.answer_log import AnswerLog, path
from mm1cli.commands.chat import as_its_card_says
from mm1cli.errors import InputError
from mm1cli.settings import Settings

QUICK = ("--max-tokens", 6, "--threads", 1)


def test_questions_follow_each_other_on_one_context(mm1, llama, notes, tmp_path):
    """Red: a question that follows reads everything again, a command is asked as a question, or an
    error ends the session."""
    lines = (
        f"{ASK}\n/open 1\nAnd the cat?\n/open 99\n/nonsense\n/save {tmp_path}/a.json\n/sources\n"
    )
    ran = mm1("chat", notes, "--model", llama, *QUICK, stdin=f"{lines}/quit\nnever\n".encode())
    assert ran.code == 0, ran.err
    told = json.loads((tmp_path / "a.json").read_text())
    first, second = told["answers"]
    assert [first["question"], second["question"]] == [ASK, "And the cat?"]
    assert second["usage"]["reused_tokens"] >= first["usage"]["context_tokens"] > 0
    assert "the last answer has" in ran.err and "/nonsense: no such command" in ran.err
    assert ran.out.count("[1] notes/") == 3, "two answers and /sources"


def test_a_context_is_chatted_with_and_the_model_alone(mm1, llama, notes):
    assert mm1("context", "build", notes, "-o", "n.mm1ctx", "--model", llama).code == 0
    ran = mm1("chat", "n.mm1ctx", *QUICK, stdin=ASK.encode())
    assert ran.code == 0 and "[1] notes/" in ran.out
    ran = mm1("chat", "--model", llama, *QUICK, stdin=b"hello\nagain\n")
    assert ran.code == 0 and ran.out.count("\n") >= 2, ran.err
    assert "reused 0 of" not in ran.err.split("wrote")[-2], "the second turn reads on"


def test_another_model_goes_on_and_what_is_forgotten_is_not_read(mm1, checkpoints, notes, tmp_path):
    """Red: /model ends the session or keeps the old model, or /forget forgets nothing."""
    llama, other = checkpoints["llama"], checkpoints["minimax"]
    lines = f"/forget\n{ASK}\nAnd the cat?\n/forget\nAnd the cat?\n/model\n/model no-such\n"
    lines += f"And the hat?\n/model {other}\n{ASK}\n/save {tmp_path}/a.json\n"
    ran = mm1("chat", notes, "--model", llama, *QUICK, stdin=lines.encode())
    assert ran.code == 0, ran.err
    assert "/model needs a name" in ran.err and "no model 'no-such'" in ran.err
    assert ran.out.count("the next question stands alone") == 2
    answers = json.loads((tmp_path / "a.json").read_text())["answers"]
    sizes = [one["usage"]["context_tokens"] for one in answers]
    assert sizes[1] > sizes[2], "the third question stands alone, and its context is smaller"
    models = [one["model_fingerprint"] for one in answers]
    assert models[3] == models[0] != models[4], "a model that is not there changes nothing"


def test_a_model_that_cannot_open_the_context_does_not_end_the_session(mm1, checkpoints, notes):
    """Red: an error of the engine loses the conversation."""
    assert mm1("context", "build", notes, "-o", "n", "--model", checkpoints["llama"]).code == 0
    lines = f"/model {checkpoints['minimax']}\n{ASK}\n"
    ran = mm1("chat", "n", *QUICK, stdin=lines.encode())
    assert ran.code == 0 and "was read by" in ran.err, ran.err
    assert "[1] notes/" in ran.out, "the question behind it is answered"


def test_calls_are_to_be_approved_on_a_terminal_in_chat_too(mm1, llama, notes):
    """Red: tools that are on by themselves are not asked about."""
    ran = mm1("chat", notes, "--model", llama, *QUICK, "--tool-approve", stdin=b"hello\n")
    assert ran.code == 2 and "--tool-approve asks on the terminal" in ran.err


def test_ctrl_c_stops_the_answer_and_not_the_session(llama, notes):
    """Red: Ctrl-C loses what was said, or nothing stops a long answer."""
    arguments = ("chat", "--model", llama, "--threads", 1, "--max-tokens", 15_000)
    with start(*arguments, stdin=-1) as process:
        process.stdin.write("hello\n")
        process.stdin.flush()
        assert process.stdout.read(1)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        process.stdin.write("/help\n/quit\n")
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "stopped; what was said before stays" in err and "/sources" in out


def test_every_answer_is_logged_for_its_owner_alone_and_found_again(mm1, llama, notes, monkeypatch):
    """Red: an answer is lost, others can read it, or --no-log keeps it."""
    monkeypatch.delenv("MM1_NO_LOG")
    common = ("analyze", notes, "--model", llama, *QUICK)
    assert mm1("logs").out == "no answers in the log\n"
    mm1(*common, "--ask", ASK, "--ask", "what is a hat?")
    mm1(*common, "--ask", "a secret?", "--no-log")
    assert path().stat().st_mode & 0o077 == 0
    listed = mm1("logs", "list", "--json").json["answers"]
    assert [one["question"] for one in listed] == ["what is a hat?", ASK]
    assert listed[0]["corpus"] == listed[1]["corpus"] != ""
    assert listed[0]["citations"] and listed[0]["model"] == str(llama)
    assert ASK in mm1("logs", "show", 1).out and mm1("logs", "show", 9).code == 3
    (found,) = mm1("logs", "search", 'hat" OR x:', "--json").json["answers"] or [None]
    assert found is None, "words are words, and not a language"
    assert mm1("logs", "search", "WHAT", "hat", "--json").json["answers"][0]["id"] == 2
    exported = [json.loads(line) for line in mm1("logs", "export").out.splitlines()]
    assert [one["id"] for one in exported] == [1, 2]


def test_a_log_that_cannot_be_written_costs_no_answer(mm1, llama, notes, monkeypatch):
    """Red: a full disk or a foreign file ends a run that has answered."""
    monkeypatch.delenv("MM1_NO_LOG")
    path().parent.mkdir(parents=True, exist_ok=True)
    path().write_bytes(b"years of work" * 100)
    ran = mm1("analyze", notes, "--model", llama, *QUICK, "--ask", ASK)
    assert ran.code == 0 and ran.out.strip() and "is no log of mm1" in ran.err
    assert path().read_bytes() == b"years of work" * 100
    assert mm1("logs").code == 3


def test_writers_at_once_lose_nothing(tmp_path):
    told = {"seed": 0, "question": "q", "answer": "a", "citations": []}
    logs = [AnswerLog(tmp_path / "a.db") for _ in range(2)]
    numbers = [log.add("ask", "m", "", told, 0.0) for log in logs * 2]
    assert numbers == [1, 2, 3, 4] and len(logs[0].newest(9)) == 4


def test_a_search_puts_the_best_first_and_no_number_is_too_large(tmp_path):
    """Red: the newest stands first, or SQLite's limits reach the user."""
    log = AnswerLog(tmp_path / "a.db")
    about = {"seed": 1, "answer": "Yes.", "citations": []}
    log.add("ask", "m", "", {**about, "question": "Is the toll due?"}, 0.0)
    log.add("ask", "m", "", {**about, "question": "Is a toll due " + "on most days " * 9}, 0.0)
    assert [one.number for one in log.search("toll", 9)] == [1, 2]
    assert len(log.search("toll", 1)) == 1
    for number in (-1, 0, 3, 2**63, 2**200):
        with pytest.raises(InputError, match="no answer number"):
            log.get(number)
    (tmp_path / "a.db").write_bytes((tmp_path / "a.db").read_bytes()[:5000] + b"x" * 9000)
    with pytest.raises(InputError, match="cannot be read"):
        log.newest(9)
    assert Path(tmp_path / "a.db").stat().st_uid == os.getuid()


def test_the_model_alone_samples_as_its_card_says_unless_told_otherwise():
    """Red: long reasoning is greedy and goes round in circles, or a flag is overruled."""
    told = as_its_card_says(Settings(), "minimax")
    assert (told.temperature, told.top_p) == (1.0, 0.95)
    chosen = Settings(temperature=0.3, origins={"temperature": "--temperature"})
    assert as_its_card_says(chosen, "minimax").temperature == 0.3
    assert as_its_card_says(Settings(), "llama").temperature == 0.0
