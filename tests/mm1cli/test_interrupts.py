"""Ctrl-C and SIGTERM at any moment: one line, 130 or 143, and not a word of Python's."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commandline import ASK, start, write_files

from mm1cli.ingest import sandbox as sandbox_module
from mm1cli.ingest.readers.reader import ReadError
from mm1cli.ingest.sandbox import Sandbox

DELAYS = (0, 0.03, 0.1, 0.2, 0.4, 0.7, 1.2)
# Of the time before, which is Python's own, nothing can be said.
CAUGHT = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from mm1cli import interrupts\n"
    "interrupts.catch()\n"
)
RUN = f"{CAUGHT}print('caught', flush=True)\nfrom mm1cli.__main__ import main\nmain()"
BODY = (
    f"{CAUGHT}"
    "import os, time\n"
    "from mm1cli.output.terminal import Terminal\n"
    "from mm1cli.session import command_scope\n"
    "def press(*_, **__): os.kill(os.getpid(), signal.SIGINT)\n"
)


def only_line(process: subprocess.Popen[str], code: int) -> str:
    """What it says on stderr before it ends with that code."""
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert err.startswith("error: ") and err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("with_signal", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
    ids=str,
)
@pytest.mark.parametrize("delay", DELAYS)
def test_a_signal_at_any_moment_is_one_line(
    llama, notes, delay: float, with_signal: signal.Signals, code: int, word: str
):
    """Red: Ctrl-C while mm1 starts exits 0, or shows where Python was."""
    write_files(notes, {"page.html": "<p>The rat.</p>"})  # read by a child
    with start(
        *("tokens", notes, "-", "--model", llama, "--quiet"),
        program=RUN,
        stdin=subprocess.PIPE,  # stays open: the run cannot be over before the signal
        start_new_session=True,
    ) as process:
        assert process.stdout.readline() == "caught\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(delay)
        os.killpg(process.pid, with_signal)  # as a terminal does
        assert only_line(process, code).startswith(f"error: {word}; ")


@pytest.mark.parametrize("delay", [0, 0.3])
def test_a_signal_while_torch_is_imported_is_one_line(llama, notes, delay: float):
    """Red: a module in C makes another error of Ctrl-C, or swallows it."""
    arguments = ("analyze", notes, "--ask", ASK, "--model", llama, "--format", "jsonl")
    with start(*arguments, "--max-tokens", 15_000, "--threads", 1) as process:
        for line in process.stdout:
            if json.loads(line)["type"] == "manifest":
                break
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(delay)
        process.send_signal(signal.SIGINT)
        only_line(process, 130)


@pytest.mark.parametrize("delay", [0, 0.003, 0.03, 0.3])
def test_a_second_ctrl_c_is_no_second_line(llama, notes, delay: float):
    """Red: who presses Ctrl-C twice sees where clearing up after the first one was."""
    arguments = ("tokens", notes, "-", "--model", llama, "--quiet")
    with start(*arguments, program=RUN, stdin=subprocess.PIPE) as process:
        assert process.stdout.readline() == "caught\n"
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        only_line(process, 130)


SAVED = "nothing was saved yet"
AT_ONCE = "stopped at once"
STUCK = "lambda _: (press(), press(), time.sleep(60))"  # as where nobody reads what is written


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("press()", AT_ONCE),
        ("with command_scope({}): press(); time.sleep(60)", SAVED),
        ("with command_scope({}): import swallowing; time.sleep(60)", "interrupted"),
        ("with command_scope({}): import slow", AT_ONCE),
        ("with command_scope({}): x = Last(); del x; time.sleep(60)", "interrupted"),
        ("with command_scope({}): lost()", SAVED),
        ("with command_scope({}), interrupts.defer_interrupts() as check: check(); press()", SAVED),
        (
            "with command_scope({}), interrupts.defer_interrupts(): press(); press();"
            " time.sleep(60)",
            SAVED,
        ),
        ("with command_scope({}):\n  try: press()\n  finally: press(); time.sleep(60)", AT_ONCE),
        ("Terminal.close = press\nwith command_scope({}): pass", AT_ONCE),
        ("Terminal.close = press\nwith command_scope({}): press(); time.sleep(60)", SAVED),
        ("Terminal._end_thinking = press\nwith command_scope({}): press(); time.sleep(60)", SAVED),
        (
            f"Terminal._end_thinking = {STUCK}\nwith command_scope({{}}): press(); time.sleep(60)",
            AT_ONCE,
        ),
        ("with command_scope({}): pass\npress()", AT_ONCE),
        ("import atexit; atexit.register(press)", AT_ONCE),
    ],
)
def test_a_signal_at_an_awkward_place_is_one_line(no_settings, body: str, words: str):
    """Red: Ctrl-C is lost in an import or a finalizer, or comes out as an error of its own."""
    write_files(
        Path(),
        {
            "swallowing.py": "from __main__ import *\ntry: lost()\nexcept ImportError: pass\n",
            "slow.py": "from __main__ import *\npress()\nfor _ in range(600): time.sleep(0.1)\n",
        },
    )
    lost = (
        "def lost():\n"
        "    try: press(); time.sleep(0.05)\n"
        "    except BaseException: raise ImportError from None\n"
        "class Last:\n"
        "    def __del__(self): press(); time.sleep(0.05)\n"
    )
    with start(program=f"{BODY}{lost}{body}\ninterrupts.settle()") as process:
        assert words in only_line(process, 130)


def test_what_the_run_was_started_to_ignore_is_ignored():
    """Red: Ctrl-C ends what a script runs in the background."""
    program = (
        "import os, signal\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from mm1cli import interrupts\n"
        "interrupts.catch()\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "print('on')"
    )
    with start(program=program) as process:
        assert process.communicate(timeout=60) == ("on\n", "")
    assert process.returncode == 0


def test_the_entry_point_imports_nothing_before_it_catches_signals():
    """Red: the first tenths of a second of mm1 are not covered."""
    program = (
        "import mm1cli.__main__, sys; print(*{'torch', 'typer', 'mm1cli.app'} & {*sys.modules})"
    )
    with start(program=program) as process:
        assert process.communicate(timeout=60) == ("\n", "")


@pytest.mark.parametrize("module", ["mm1cli", "mm1cli.app"])
def test_mm1_is_a_module_that_runs(module: str):
    """Red: python -m mm1cli.app says nothing and exits 0."""
    told = subprocess.run(
        [sys.executable, "-m", module, "--bogus"], capture_output=True, text=True, timeout=60
    )
    assert told.returncode == 2
    assert told.stderr.startswith("error: ") and "--bogus" in told.stderr


def test_a_sandbox_that_is_aborted_while_its_child_starts_ends_it(monkeypatch):
    """Red: after Ctrl-C a reader is still waited for."""
    children = []
    start_child = sandbox_module._start

    def start_late(*given: object) -> "subprocess.Popen[bytes]":
        children.append(start_child(*given))
        sandbox.abort()
        return children[0]

    monkeypatch.setattr(sandbox_module, "_start", start_late)
    with Sandbox() as sandbox, pytest.raises(ReadError):
        sandbox.read("html", b"<p>The rat.</p>")
    assert children[0].returncode == -signal.SIGKILL
