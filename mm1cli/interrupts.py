"""Ctrl-C and SIGTERM, from the first moment to the last: one line and a code of their own.

A command at work is stopped by an exception, so that it puts right what is half done. Before and
after, and where a second signal comes, the process ends at once. Importing this imports nothing
slow: the handlers are to stand before anything else is imported.
"""

import atexit
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto
from types import FrameType

from mm1cli.errors import ExitCode

_SHOW_CURSOR = "\x1b[?25h"  # a progress bar hides it
_AGAIN_S = 0.02
_PATIENCE_S = 0.5  # with imports, which may take many seconds


class Terminated(BaseException):
    """SIGTERM has come."""


_ENDS: dict[int, tuple[type[BaseException], ExitCode, str]] = {
    signal.SIGINT: (KeyboardInterrupt, ExitCode.INTERRUPTED, "interrupted"),
    signal.SIGTERM: (Terminated, ExitCode.TERMINATED, "terminated"),
}


class _Stage(Enum):
    OUTSIDE = auto()  # of a command: nothing is half done
    AT_WORK = auto()
    IN_CHUNK = auto()  # the first Ctrl-C waits until the chunk is done
    CLOSING = auto()  # the first signal waits until everything is written
    TELLING = auto()  # the line is being written, and the end follows


_stage = _Stage.OUTSIDE
_first: int | None = None  # the first signal; the end is by it, whatever follows
_first_s = 0.0  # when it came, by the clock
_is_raised = False
_is_told = False
_is_saved = False


def catch() -> None:
    """From now on signals are caught, but those that the process was started to ignore."""
    caught = [number for number in _ENDS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in caught:
        signal.signal(number, _on_signal)
    if sys.platform != "win32":
        signal.signal(signal.SIGALRM, _on_alarm)

    @atexit.register  # the last to run: Python would next put back the default, a code of -2
    def _ignore() -> None:
        for number in caught:
            signal.signal(number, signal.SIG_IGN)


def settle() -> None:
    """The run is over: from here a signal ends the process at once, as one does that came."""
    global _stage
    _stage = _Stage.OUTSIDE
    if _first is not None:
        _end(_first)


def begin() -> None:
    """A command is at work: a signal is an exception, KeyboardInterrupt or Terminated."""
    global _stage, _is_saved
    _stage, _is_saved = _Stage.AT_WORK, False


def note_saved() -> None:
    """From here on the same command goes on from what it did."""
    global _is_saved
    _is_saved = True


def is_something_saved() -> bool:
    return _is_saved


def begin_again() -> None:
    """As `begin`, where Ctrl-C has stopped a part of the work, and the rest goes on."""
    global _first, _is_raised, _is_told
    if _first == signal.SIGTERM:
        return
    _first, _is_raised, _is_told = None, False, False
    begin()


def close() -> None:
    """The work is over: no signal is an exception any more."""
    global _stage
    _stage = _Stage.CLOSING


def reason(error: BaseException | None) -> tuple[ExitCode, str] | None:
    """The code and the word for how a command was stopped, if it was; `error` is what it raised.
    The exception of a signal may have become another one on its way, or none."""
    for number, (kind, code, how) in _ENDS.items():
        if number == _first or (_first is None and isinstance(error, kind)):
            return code, how
    return None


@contextmanager
def telling() -> Iterator[None]:
    """The line about the end is written inside, once."""
    global _stage, _is_told
    _stage = _Stage.TELLING
    try:
        yield
    finally:
        _is_told = True
        _stage = _Stage.CLOSING


@contextmanager
def defer_interrupts() -> Iterator[Callable[[], None]]:
    """Ctrl-C waits until what this yields is called, where the work stands whole; a second one
    does not wait."""
    global _stage
    before, _stage = _stage, _Stage.IN_CHUNK
    try:
        yield _raise_what_waits
    finally:
        _stage = before
    _raise_what_waits()


def _raise_what_waits() -> None:
    global _is_raised
    if _first is not None:
        _is_raised = True
        if sys.platform != "win32":
            signal.setitimer(signal.ITIMER_REAL, 0)
        raise _ENDS[_first][0]


def _on_signal(number: int, frame: FrameType | None) -> None:
    global _first, _first_s, _is_raised, _stage
    if _stage is _Stage.TELLING:
        _stage = _Stage.CLOSING  # where nobody reads the line, the next one ends it
        return
    if _first is None:
        _first, _first_s = number, time.monotonic()
        if _stage is _Stage.CLOSING or (_stage is _Stage.IN_CHUNK and number == signal.SIGINT):
            return
    if _is_raised or _stage in {_Stage.OUTSIDE, _Stage.CLOSING}:
        _end(_first)
    _is_raised = True
    _on_alarm(number, frame)


def _on_alarm(_: int, frame: FrameType | None) -> None:
    """Raises as soon as the exception comes through, if that is soon."""
    if _first is None or _stage not in {_Stage.AT_WORK, _Stage.IN_CHUNK}:
        return
    if sys.platform != "win32" and _is_delicate(frame):
        if time.monotonic() - _first_s > _PATIENCE_S:
            _end(_first)
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
        return
    raise _ENDS[_first][0]


def _is_delicate(frame: FrameType | None) -> bool:
    """Whether an exception would be lost or become another: in imports, where modules in C turn it
    into theirs, and in finalizers, where Python prints it and goes on."""
    while frame is not None:
        code = frame.f_code
        if (
            code.co_filename.startswith("<frozen importlib")
            or code.co_filename.endswith(("weakref.py", "_weakrefset.py"))
            or code.co_name == "__del__"
        ):
            return True
        frame = frame.f_back
    return False


def _end(number: int) -> None:
    """Says so, unless that was done, past streams that may be in use; nothing else runs."""
    _, code, how = _ENDS[number]
    line = f"error: {how}; stopped at once, and nothing more was saved\n"
    with suppress(OSError):
        if not _is_told:
            os.write(2, (f"{_SHOW_CURSOR}\n{line}" if os.isatty(2) else line).encode())
    os._exit(code)
