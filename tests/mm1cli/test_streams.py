"""Red here means a closed or full stream, or too little memory, is a traceback or a crash."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import ASK, SHORT

from mm1cli import streams
from mm1cli.commands import opening
from mm1cli.errors import BudgetError

RUN = "from mm1cli import streams; streams.prepare(); import sys; "


def shell(redirected: str, code: str) -> subprocess.CompletedProcess[str]:
    command = f"exec {sys.executable} -c '{RUN}{code}' {redirected}"
    return subprocess.run(
        ["sh", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(streams.__file__).parents[1],
    )


@pytest.mark.skipif(os.name == "nt", reason="a shell")
@pytest.mark.parametrize(
    ("redirected", "code", "expected"),
    [
        (">&-", "", (8, "", "error: standard output is closed; redirect it to a file or a pipe\n")),
        ("<&-", "print(sys.stdin.read() or 7)", (0, "7\n", "")),
        ("2>&-", 'sys.stderr.write("x"); print(open("README.md").fileno())', (0, "3\n", "")),
        ("2>/dev/full", 'sys.stderr.write("x\\n"); print(1)', (0, "1\n", "")),
        ("", 'sys.stderr.write("é\\n"); print(1)', (0, "1\n", "é\n")),
    ],
)
def test_streams_that_are_closed_or_full(redirected, code, expected):
    ran = shell(redirected, code)
    assert (ran.returncode, ran.stdout, ran.stderr) == expected


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_an_output_without_room_is_8_and_one_line(mm1, monkeypatch, llama, notes, form, number):
    def full(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(streams, "drop_stdout", lambda: None)
    monkeypatch.setattr("mm1cli.output.text.Channel.write", full)
    ran = mm1("tokens", notes, "--model", llama, *form)
    assert ran.code == 8
    assert ran.err.splitlines()[-1] == (
        f"error: standard output: {os.strerror(number)}; nothing more was written"
    )


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        RuntimeError("could not create a primitive"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_a_lack_of_memory_is_4_and_says_what_to_do(mm1, llama, notes, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("mm1cli.commands.analyze.read", fail)
    ran = mm1("analyze", notes, "--ask", ASK, "--model", llama, *SHORT)
    assert (ran.code, ran.out) == (4, "")
    assert ran.err.splitlines()[-1].startswith("error: out of memory; free some")


@pytest.mark.skipif(os.name == "nt", reason="limits")
def test_a_limit_at_which_libraries_crash_is_refused_first(monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda _: (300 * 10**6, -1))
    with pytest.raises(BudgetError, match="ulimit -d allows 300 MB"):
        opening.require_data_limit()


def test_a_file_that_the_system_refuses_is_3_and_named(mm1, llama, notes, monkeypatch):
    """Red: a read-only mount is "an internal error"."""

    def fail(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system", "/mnt/x")

    monkeypatch.setattr("mm1cli.commands.analyze.read", fail)
    ran = mm1("analyze", notes, "--ask", ASK, "--model", llama, *SHORT)
    assert (ran.code, ran.err.splitlines()[-1]) == (3, "error: /mnt/x: Read-only file system")
