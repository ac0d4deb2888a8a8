"""Standard streams that are closed, full or read-only, and machines with no memory to load mm1.

Importing this imports nothing slow: it is for the moment before anything else is imported.
"""

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any, NoReturn

from mm1cli.errors import ExitCode

NO_ROOM = frozenset({errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EROFS, errno.EDQUOT, errno.EBADF})
_NO_MEMORY = ("cannot allocate memory", "failed to map segment", "out of memory", "can't allocate",
    "could not create a primitive", "could not create a memory",
)  # fmt: skip


def prepare() -> None:
    """Opens what is closed, so that no file of ours takes its number. A run whose stderr cannot be
    written to goes on; one whose stdout is closed ends here."""
    is_closed = [not _is_open(number) for number in range(3)]
    for number, closed in enumerate(is_closed):
        if closed:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(_Lenient(2, "w", closefd=False)),
        encoding=getattr(sys.stderr, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )
    if is_closed[1]:
        fail("standard output is closed; redirect it to a file or a pipe", ExitCode.OUTPUT)


def fail(message: str, code: ExitCode) -> NoReturn:
    """One line and the end, past everything."""
    with suppress(OSError):
        os.write(2, f"error: {message}\n".encode(errors="backslashreplace"))
    os._exit(code)


def drop_stdout() -> None:
    """Python would complain about it once more while it shuts down."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def drop_stderr() -> None:
    """For a run that goes on where both streams lead to a pipe that closed."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def is_stream_lost(error: OSError) -> bool:
    """Whether a standard stream was closed, or has no room. Errors of files have a name."""
    return isinstance(error, BrokenPipeError) or (error.filename is None and error.errno in NO_ROOM)


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether the system had no memory to give, however it was said."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return isinstance(error, ImportError | RuntimeError | OSError) and any(
        words in str(error).lower() for words in _NO_MEMORY
    )


def no_memory_message() -> str:
    return "out of memory; free some, raise `ulimit -v` and `ulimit -d`, or take a smaller model"


class _Lenient(io.FileIO):
    """What cannot be written for want of room is lost, and the run goes on."""

    def write(self, content: Any, /) -> int:  # noqa: ANN401
        try:
            return super().write(content) or 0
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            return len(content)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
