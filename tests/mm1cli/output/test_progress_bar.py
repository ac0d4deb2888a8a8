"""The bar on a real pseudo-terminal, read back through a very small terminal emulator."""

import os
import pty
import re
import termios
import threading
import time
from collections.abc import Iterator

import pytest

from mm1cli.ingest.manifest import Manifest, ReadingPlan
from mm1cli.output.terminal import Terminal
from mm1cli.output.text import Channel
from mm1cli.result import Answer, Usage

CONTROL = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])")
USAGE = Usage(100, 100, 100, 0, 2, 1.0, 1.0, 2.0)


class Screen:
    """A pseudo-terminal whose output is collected, and what a person would see of it."""

    def __init__(self, columns: int):
        self.columns = columns
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, columns))
        self.stream = os.fdopen(slave, "w", encoding="utf-8")
        self._bytes = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                chunk = os.read(self.master, 4096)
            except OSError:  # how Linux says that the other end is closed
                return
            if not chunk:
                return
            self._bytes += chunk

    @property
    def raw(self) -> str:
        return self._bytes.decode("utf-8", "replace")

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 10
        while text not in self.raw:
            assert time.monotonic() < deadline, f"{text!r} never came: {self.raw[-300:]!r}"
            time.sleep(0.01)

    def close(self) -> None:
        if not self.stream.closed:
            self.stream.close()
            self._reader.join()
            os.close(self.master)

    def abandon(self) -> None:
        """After a test, which may have failed with its bar still drawn."""
        if not self.stream.closed:
            self._sink.close()
        self.close()

    @property
    def lines(self) -> list[str]:
        rows, row, column = [""], 0, 0
        for piece in re.findall(r"\x1b\[\??[\d;]*[A-Za-z]|.", self.raw, re.DOTALL):
            if match := CONTROL.fullmatch(piece):
                count = int(match[1]) if match[1].isdecimal() else 1
                if match[2] == "A":
                    row -= count
                elif match[2] == "K":
                    rows[row] = "" if match[1] == "2" else rows[row][:column]
                else:
                    assert match[2] in "mhl", f"unforeseen control code {piece!r}"
            elif piece == "\r":
                column = 0
            elif piece == "\n":
                row += 1
                rows += [""] * (row + 1 - len(rows))
            else:
                if column == self.columns:
                    row, column = row + 1, 0
                    rows += [""] * (row + 1 - len(rows))
                rows[row] = rows[row][:column].ljust(column) + piece + rows[row][column + 1 :]
                column += 1
        return [line.rstrip() for line in rows]

    def sink(self, environ: dict[str, str], after_s: float) -> Terminal:
        channel = Channel.from_environment(self.stream, environ)
        self._sink = Terminal(channel, channel, progress_after_s=after_s)
        return self._sink


@pytest.fixture(params=[20, 40, 80, 200])
def screen(request: pytest.FixtureRequest) -> Iterator[Screen]:
    screen = Screen(request.param)
    yield screen
    screen.abandon()


@pytest.fixture
def wide_screen() -> Iterator[Screen]:
    screen = Screen(80)
    yield screen
    screen.abandon()


def finish(sink: Terminal, screen: Screen) -> None:
    sink.token("The ")
    sink.token("answer.")
    sink.answer(Answer("?", "The answer.", (), USAGE, ReadingPlan.WHOLE, "stop", 0))
    sink.close()
    screen.close()


def test_a_bar_is_drawn_and_leaves_no_trace(screen: Screen):
    sink = screen.sink({"TERM": "xterm"}, after_s=0.0)
    sink.progress("prefill", 0, 8_192, "tokens")
    screen.wait_for("model reads")
    sink.progress("prefill", 4_096, 8_192, "tokens")
    screen.wait_for("left" if screen.columns > 20 else "50 %")
    sink.note("still here")
    finish(sink, screen)
    assert screen.lines[:4] == ["note: still here", "", "The answer.", ""]
    assert "model reads ━" not in "\n".join(screen.lines)
    assert screen.raw.rindex("\x1b[?25h") > screen.raw.rindex("\x1b[?25l"), "no cursor left"


def test_a_wide_bar_tells_how_much_how_fast_and_how_long(wide_screen: Screen):
    sink = wide_screen.sink({"TERM": "xterm"}, after_s=0.0)
    sink.progress("prefill", 1_024, 8_192, "tokens")
    wide_screen.wait_for("1,024/8,192 tokens")
    sink.progress("prefill", 4_096, 8_192, "tokens")
    wide_screen.wait_for("4,096/8,192 tokens")
    sink.close()
    wide_screen.close()
    assert re.search(
        r"model reads .*━.* 4,096/8,192 tokens  [\d,]+/s  \d:\d\d left", wide_screen.raw
    )


def test_a_bar_comes_back_below_a_note(wide_screen: Screen):
    sink = wide_screen.sink({"TERM": "xterm"}, after_s=0.0)
    sink.progress("prefill", 0, 100, "tokens")
    wide_screen.wait_for("0/100 tokens")
    sink.note("half way")
    wide_screen.wait_for("half way")
    after_note = wide_screen.raw.index("half way")
    deadline = time.monotonic() + 10
    while "0/100 tokens" not in wide_screen.raw[after_note:]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    sink.close()
    wide_screen.close()
    assert [line for line in wide_screen.lines if line] == ["note: half way"]


def test_short_work_draws_nothing(wide_screen: Screen):
    sink = wide_screen.sink({"TERM": "xterm", "NO_COLOR": "1"}, after_s=60.0)
    for done in range(0, 101, 10):
        sink.progress("prefill", done, 100, "tokens")
    finish(sink, wide_screen)
    assert "\x1b" not in wide_screen.raw
    assert wide_screen.lines[0] == "The answer."


@pytest.mark.parametrize("end", ["token", "manifest", "error", "close", "done"])
def test_whatever_ends_the_work_takes_the_bar_away(wide_screen: Screen, end: str):
    sink = wide_screen.sink({"TERM": "xterm"}, after_s=0.0)
    sink.progress("prefill", 1, 100, "tokens")
    wide_screen.wait_for("1/100 tokens")
    if end == "token":
        sink.token("x")
    elif end == "manifest":
        sink.manifest(Manifest((), 1), show=True)
    elif end == "error":
        sink.error("gone wrong", 1)
    elif end == "close":
        sink.close()
    else:
        sink.progress("prefill", 100, 100, "tokens")
    wide_screen.close()
    assert "tokens  " not in "\n".join(wide_screen.lines)
    assert "1/100" not in "\n".join(wide_screen.lines)
    assert wide_screen.raw.rindex("\x1b[?25h") > wide_screen.raw.rindex("\x1b[?25l")


def test_the_echo_of_ctrl_c_does_not_strand_the_bar(screen: Screen):
    sink = screen.sink({"TERM": "xterm"}, after_s=0.0)
    sink.progress("prefill", 50, 100, "tokens")
    screen.wait_for("50")
    (drawn,) = [line for line in screen.lines if line]
    assert drawn.startswith("model reads ") and len(drawn) <= screen.columns - len("^C")
    screen.stream.write("^C")
    screen.stream.flush()
    sink.close()
    screen.close()
    assert not "".join(screen.lines)


def test_no_timer_outlives_its_work(wide_screen: Screen):
    sink = wide_screen.sink({"TERM": "xterm"}, after_s=60.0)
    sink.progress("prefill", 0, 100, "tokens")
    timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    assert timers
    sink.progress("prefill", 100, 100, "tokens")
    assert all(timer.finished.is_set() for timer in timers)


@pytest.mark.parametrize("no_color", [True, False])
def test_no_color_means_no_colour_codes(wide_screen: Screen, no_color: bool):
    environ = {"TERM": "xterm"} | ({"NO_COLOR": "1"} if no_color else {})
    sink = wide_screen.sink(environ, after_s=0.0)
    sink.progress("prefill", 0, 100, "tokens")
    sink.progress("prefill", 50, 100, "tokens")
    wide_screen.wait_for("━")
    sink.note("a note")
    finish(sink, wide_screen)
    assert bool(re.search(r"\x1b\[[\d;]*m", wide_screen.raw)) is not no_color


def test_a_dumb_terminal_gets_lines(wide_screen: Screen):
    sink = wide_screen.sink({"TERM": "dumb"}, after_s=0.0)
    sink.progress("prefill", 0, 100, "tokens")
    sink.progress("prefill", 50, 100, "tokens")
    finish(sink, wide_screen)
    assert "\x1b" not in wide_screen.raw
    assert wide_screen.lines[:2] == ["model reads 50 % 50 of 100 tokens", "The answer."]
