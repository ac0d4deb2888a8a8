"""A sandbox child whose readers misbehave; test_sandbox.py runs it in place of the real one."""

import ctypes
import os
import sys
import time

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


READERS = (box, echo, refuse, fail, sleep, loop, allocate, crash, flood, imported)

if __name__ == "__main__":
    serve({read.__name__: Reader(read.__name__, 1, {}, 0, True, read) for read in READERS})
