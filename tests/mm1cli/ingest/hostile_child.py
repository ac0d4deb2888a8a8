"""A sandbox child whose readers misbehave; test_sandbox.py runs it in place of the real one."""

import ctypes
import os
import sys
import time
from pathlib import Path

from mm1cli.ingest.corpus import Block, Reason
from mm1cli.ingest.readers.reader import Member, Reader, ReadError, Reading
from mm1cli.ingest.sandbox_child import serve


def echo(data):
    print("a library that prints", flush=True)
    print("and complains", file=sys.stderr, flush=True)
    return Reading((Block(data.decode()),), (f"child {os.getpid()}",))


def refuse(data):
    raise ReadError(Reason.NO_TEXT, "two\nlines")


def fail(data):
    raise RuntimeError("a bug\nin a library")


def sleep(data):
    time.sleep(60)


def loop(data):
    while True:
        pass


def allocate(data):
    pieces = []
    while True:
        pieces.append(bytearray(16 << 20))


def crash(data):
    ctypes.string_at(0)


def flood(data):
    return Reading((Block("x" * 3_000_000),))


def imported(data):
    return Reading((Block(" ".join(sorted(sys.modules))),))


def box(data):
    refusal = ReadError(Reason.ENCRYPTED, "locked")
    members = (Member("a.txt", data), Member("b.bin", b"\0" * 10), Member("c", refusal=refusal))
    return Reading((), members=members)


def told(attempt):
    """What comes of it, as a reading."""
    try:
        what = f"done: {attempt()!r:.60}"
    except OSError as error:
        what = type(error).__name__
    return Reading((Block(what),))


def read_file(data):
    return told(lambda: Path(data.decode()).read_bytes())


def read_environment(data):
    def found():
        if data.decode() not in os.environ:
            raise PermissionError
        return os.environ[data.decode()]

    return told(found)


def connect(data):
    import socket

    return told(lambda: socket.create_connection(("127.0.0.1", int(data)), 5).close())


def execute(data):
    return told(lambda: os.execv("/bin/true", ["true"]))


def fork(data):
    def bomb():
        for _ in range(100):
            os._exit(0) if os.fork() == 0 else None

    return told(bomb)


def write_file(data):
    return told(lambda: Path(data.decode()).write_text("here"))


def raise_limits(data):
    import resource

    kinds = (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC)

    def higher():
        raised = []
        for kind in kinds:
            try:
                resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                raised.append(kind)
            except (OSError, ValueError):
                pass
        if not raised:
            raise PermissionError
        return raised

    return told(higher)


def see_parent(data):
    return told(lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes())


def signal_parent(data):
    return told(lambda: os.kill(os.getppid(), 0))


COMPROMISED = (
    read_file, read_environment, connect, execute, fork, write_file, raise_limits, see_parent,
    signal_parent,
)  # fmt: skip
READERS = (*COMPROMISED, box, echo, refuse, fail, sleep, loop, allocate, crash, flood, imported)

if __name__ == "__main__":
    serve({read.__name__: Reader(read.__name__, 1, {}, 0, True, read) for read in READERS})
