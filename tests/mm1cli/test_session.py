"""How runs end: one line, one code, nothing half-said on stdout."""

import errno
import io
import json
import os
import signal
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from commandline import ASK, SHORT, copy_files, interrupt, start, write_files
from pypdf import PdfWriter
from reportlab.pdfgen.canvas import Canvas
from safetensors.torch import load_file, save_file

from engine.engine import Engine
from engine.placement import memory
from mm1cli import streams
from mm1cli.output.terminal import Terminal


def make_pdf(text: str = "The rat.") -> bytes:
    output = io.BytesIO()
    canvas = Canvas(output, invariant=1)
    canvas.drawString(72, 700, text)
    canvas.save()
    return output.getvalue()


def locked_pdf() -> bytes:
    writer = PdfWriter(clone_from=io.BytesIO(make_pdf()))
    writer.encrypt("secret", algorithm="AES-256")
    output = io.BytesIO()
    writer.write(output)
    return output.getvalue()


def broken_docx() -> bytes:
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        archive.writestr("word/document.xml", "<cut")
    return output.getvalue()


@pytest.fixture
def fails(mm1) -> Callable[..., str]:
    """Runs `mm1 ARGS`, in words and as --json; both must fail alike. Returns the message."""

    def run(code: int, *arguments: object) -> str:
        ran = mm1(*arguments)
        assert (ran.code, ran.out) == (code, "")
        assert "Traceback" not in ran.err
        *_, last = ran.err.splitlines()
        assert last.startswith("error: ")
        assert ran.err.count("error: ") == 1
        told = mm1(*arguments, "--json")
        assert told.code == code
        assert told.json["error"] == {"message": last.removeprefix("error: "), "exit_code": code}
        return last

    return run


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no files there"),
        ({"a/b/": ""}, "no files there"),
        ({"a.png": b"\x89PNG\r\n\x1a\n\0", "b.bin": b"\0\1\2"}, "format not supported"),
        ({"cut.pdf": make_pdf()[:200]}, "1 unreadable"),
        ({"locked.pdf": locked_pdf()}, "1 password protected"),
        ({"broken.docx": broken_docx()}, "1 unreadable"),
        ({"empty.txt": " \n"}, "1 empty"),
    ],
)
def test_nothing_readable_is_3(fails, llama, tmp_path, files, words: str):
    """Red: a question is answered about nothing."""
    folder = tmp_path / "input"
    folder.mkdir()
    write_files(folder, {name: data for name, data in files.items() if not name.endswith("/")})
    assert words in fails(3, "analyze", folder, "--ask", ASK, "--model", llama)


def test_a_path_that_is_not_there_is_3_before_anything_is_read(fails, llama, notes):
    """Red: a typing error costs minutes, or is passed over."""
    assert "nowhere" in fails(3, "analyze", notes, "nowhere", "--ask", ASK, "--model", llama)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("analyze", "x", "--bogus"), "--bogus"),
        (("analyze",), "paths"),
        (("analyse", "x"), "analyse"),
        (("analyze", "x", "--ask"), "--ask"),
        (("analyze", "x"), "no question"),
        (("analyze", "x", "--ask", " \n"), "empty"),
        (("analyze", "x", "--ask", "\udcff"), "Unicode"),
        (("analyze", "x", "--ask", "y", "--seed", "x"), "--seed"),
        (("analyze", "x", "--ask", "y", "--seed", "-1"), "--seed"),
        (("analyze", "x", "--ask", "y", "--max-tokens", "0"), "--max-tokens"),
        (("analyze", "x", "--ask", "y", "--top-p", "nan"), "--top-p"),
        (("analyze", "x", "--ask", "y", "--format", "jsonl"), "two formats"),
        (("analyze", "x", "--ask", "y", "--format", "xml"), "xml"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_2(mm1, arguments, words: str):
    """Red: a script cannot tell its own mistake from one of the documents."""
    for json_too in ((), ("--json",)):
        if "two formats" in words and not json_too:
            continue
        if "--ask" in arguments[-1:] and json_too:
            continue  # --json would be the question
        ran = mm1(*arguments, *json_too)
        assert ran.code == 2
        assert words in ran.err and ran.err.startswith("error: ") and ran.err.count("\n") == 1
        assert ran.out == "" if not json_too else ran.json["error"]["exit_code"] == 2


def test_a_setting_that_is_none_is_2_and_names_its_origin(fails, monkeypatch, notes):
    """Red: a misspelt setting is passed over."""
    monkeypatch.setenv("MM1_MAX_TOKEN", "5")
    assert "MM1_MAX_TOKENS" in fails(2, "analyze", notes, "--ask", ASK)


def test_no_command_shows_the_help_and_no_error(mm1):
    """Red: a first try is answered with a riddle."""
    ran = mm1()
    assert ran.code == 2 and "analyze" in ran.out + ran.err and "error" not in ran.err


def _missing_shard(model, weights):
    (model / "model.safetensors").unlink()
    tiny.write_index(model, dict.fromkeys(weights, "model-00000-of-00001.safetensors"))
    return "model-00000-of-00001.safetensors is missing"


def _cut(model, weights):
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    return "cut or damaged"


def _other_shape(model, weights):
    weights["model.norm.weight"] = weights["model.norm.weight"][:-1].clone()
    save_file(weights, model / "model.safetensors")
    return "model.norm.weight has shape"


def _no_tokenizer(model, weights):
    (model / "tokenizer.json").unlink()
    return "tokenizer.json"


def _other_config(model, weights):
    (model / "config.json").write_text("{")
    return "config.json"


@pytest.mark.parametrize(
    "damage", [_missing_shard, _cut, _other_shape, _no_tokenizer, _other_config]
)
def test_a_model_that_is_not_whole_is_7(fails, llama, notes, tmp_path, damage):
    """Red: a damaged model is loaded, or ends in a traceback."""
    model = copy_files(llama, tmp_path / "damaged")
    words = damage(model, load_file(model / "model.safetensors"))
    assert words in fails(7, "analyze", notes, "--ask", ASK, "--model", model)


def test_a_model_that_is_not_there_is_7_and_the_name_meant_is_told(fails, notes):
    """Red: a typing error starts a download."""
    assert "'mini'" in fails(7, "analyze", notes, "--ask", ASK, "--model", "minni")


def test_a_context_without_room_is_4(fails, llama, notes):
    """Red: documents are cut off to make them fit."""
    common = ("analyze", notes, "--ask", ASK, "--model", llama)
    assert "--context-tokens" in fails(4, *common, "--context-tokens", 50)
    assert "--max-tokens" in fails(4, *common, "--max-tokens", 1_000_000)


def test_too_little_memory_is_4_with_the_sum(fails, llama, notes, monkeypatch):
    """Red: the system kills the run half-way."""
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1000)
    message = fails(4, "analyze", notes, "--ask", ASK, "--model", llama)
    assert "weights" in message and "KV" in message


def test_strict_is_5_if_anything_is_lost_and_the_answer_stands(mm1, llama, notes):
    """Red: --strict passes an answer that does not rest on all of the input, or eats it."""
    common = ("--ask", ASK, "--model", llama, *SHORT, "--strict")
    ran = mm1("analyze", notes, *common)
    assert ran.code == 5 and ran.out.strip() and "photo.png" in ran.err.splitlines()[-1]
    told = mm1("analyze", notes, *common, "--json")
    assert told.code == 5 and told.json["error"]["exit_code"] == 5 and told.json["answer"]
    (notes / "photo.png").unlink()
    assert mm1("analyze", notes, *common).code == 0, "hidden files are no loss"
    write_files(notes, {"long.md": "The rat is on a mat far away. " * 900})
    assert mm1("tokens", notes, "--model", llama, "--strict").code == 5
    ran = mm1("analyze", notes, *common)
    assert ran.code == 5 and "retrieval" in ran.err.splitlines()[-1]


class Saying:
    token_ids = (1, 2)
    stop_reason, num_drafted, num_accepted = "end", 0, 0

    def __init__(self, text: str) -> None:
        self._text = text

    def __iter__(self):
        return iter([self._text])


def test_strict_citations_is_6_if_a_claim_is_nowhere(mm1, llama, notes, monkeypatch):
    """Red: an invented number passes --strict-citations, or a true one does not."""
    common = ("analyze", notes, "--ask", ASK, "--model", llama)
    monkeypatch.setattr(Engine, "decode", lambda *_, **__: Saying("It cost 97.3 crowns."))
    ran = mm1(*common)
    assert ran.code == 0 and "97.3" in ran.out, "without the flag it is a warning"
    ran = mm1(*common, "--strict-citations")
    assert ran.code == 6 and "97.3" in ran.err.splitlines()[-1]
    assert ran.out.startswith("It cost 97.3 crowns.\n\n[1] ")
    monkeypatch.setattr(Engine, "decode", lambda *_, **__: Saying("It cost 48.2 crowns."))
    assert mm1(*common, "--strict-citations").code == 0


def test_a_bug_is_1_in_one_line_and_in_full_when_asked(fails, mm1, llama, notes, monkeypatch):
    """Red: users get a traceback, or developers none."""

    def broken(*_, **__):
        raise KeyError("two\nlines")

    monkeypatch.setattr(Engine, "decode", broken)
    common = ("analyze", notes, "--ask", ASK, "--model", llama)
    message = fails(1, *common)
    assert "KeyError" in message and "MM1_DEBUG=1" in message
    monkeypatch.setenv("MM1_DEBUG", "1")
    with pytest.raises(KeyError):
        mm1(*common)


@pytest.mark.parametrize(
    ("with_signal", "code", "more", "words"),
    [
        (signal.SIGINT, 130, (), "nothing was saved yet"),
        (signal.SIGTERM, 143, ("--no-cache",), "nothing was saved"),
    ],
    ids=str,
)
def test_a_signal_ends_the_run_in_one_line(
    llama, notes, with_signal: signal.Signals, code: int, more: tuple[str, ...], words: str
):
    """Red: Ctrl-C prints a traceback, cannot be told from a crash, or promises what is not so."""
    arguments = ("analyze", notes, "--ask", ASK, "--model", llama, "--format", "jsonl")
    with start(*arguments, "--max-tokens", 15_000, "--threads", 1, *more) as process:
        for line in process.stdout:
            if json.loads(line)["type"] == "token":
                break
        out, err = interrupt(process, with_signal)
    assert process.returncode == code
    assert err.startswith("error: ") and err.count("\n") == 1 and words in err
    assert json.loads(out.splitlines()[-1])["exit_code"] == code, "every line is still whole JSON"


def test_ctrl_c_while_reading_leaves_no_traceback_of_the_reader(llama, notes):
    """Red: the reading process, which gets the same Ctrl-C, speaks for itself."""
    write_files(notes, {f"{i}.pdf": make_pdf(f"page {i}") for i in range(300)})
    arguments = ("tokens", notes, "--model", llama, "--format", "jsonl")
    with start(*arguments, start_new_session=True) as process:
        for line in process.stdout:
            event = json.loads(line)
            if event["type"] == "progress" and event["done"] > 5:
                break
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.startswith("error: interrupted") and err.count("\n") == 1


def test_a_reader_that_went_away_is_silent(llama, notes):
    """Red: `mm1 tokens ... | head` complains about a broken pipe."""
    write_files(notes, {f"{i}.txt": f"cat {i}" for i in range(3000)})
    with start("tokens", notes, "--model", llama) as process:
        process.stdout.close()
        err = process.stderr.read()
        process.wait(timeout=60)
    # A slow machine tells of its progress; of the pipe nothing is said.
    assert all(line.startswith("reading ") for line in err.splitlines())
    assert process.returncode == 141


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(errno.ENOSPC, "full")])
def test_a_file_of_answers_outlives_whoever_read_stdout(error, mm1, llama, notes, monkeypatch):
    """Red: `mm1 analyze ... -o r.md | head` leaves no r.md, after minutes of work."""

    class Lost(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    monkeypatch.setattr(streams, "drop_stdout", lambda: setattr(sys, "stdout", io.StringIO()))
    monkeypatch.setattr(Terminal, "_token", lambda self, text: Lost().write(text))
    ran = mm1("analyze", notes, "--ask", ASK, *SHORT, "--model", llama, "-o", "r.md")
    assert ran.code == (141 if isinstance(error, BrokenPipeError) else 8)
    assert ASK in Path("r.md").read_text()
    assert ("full" in ran.err) == (ran.code == 8)


def test_nothing_is_summed_up_where_nothing_was_found(mm1, llama, notes):
    """Red: an empty folder "fits, will be read whole"."""
    Path("empty").mkdir()
    ran = mm1("analyze", "empty", "--ask", ASK, "--model", llama)
    assert (ran.code, ran.out, ran.err.count("\n")) == (3, "", 1)
    assert ran.err.startswith("error: no files there")
    ran = mm1("tokens", "notes/photo.png", "--model", llama)
    assert ran.code == 3 and "photo.png  format not supported" in ran.out
    assert ran.out.endswith("\n1 seen = 0 read + 1 left out\n")
