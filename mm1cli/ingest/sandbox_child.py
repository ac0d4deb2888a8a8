"""The child of `sandbox`: confines itself, then reads file after file until its stdin ends."""

import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import IO, Any, NoReturn

from mm1cli.ingest.confine import Trust, confine, forbid_processes
from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.display_names import one_line
from mm1cli.ingest.readers import READERS
from mm1cli.ingest.readers.reader import Reader, ReadError
from mm1cli.ingest.sandbox import (
    CAN_LIMIT_OTHERS,
    EXIT_OUT_OF_MEMORY,
    READY,
    receive,
    receive_message,
    send,
)
from mm1cli.ingest.wire_format import refusal_of, reply_of

# Windows has no such limits; there the parent's wall clock is the only one.
if sys.platform != "win32":
    import resource

Task = Callable[[bytes], tuple[dict[str, object], bytes]]  # a message, and bytes after it
_Job = tuple[dict[str, Any], bytes]


def serve(readers: Mapping[str, Reader]) -> NoReturn:
    """As `serve_tasks`, each task a reader."""
    serve_tasks({name: partial(_read, reader) for name, reader in readers.items()})


def serve_tasks(tasks: Mapping[str, Task]) -> NoReturn:
    """Answers requests until the parent closes stdin or dies; does not return."""
    confine(Trust(sys.argv[1]) if sys.argv[1:] else Trust.READER)
    requests, replies = _take_standard_streams()
    jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
    # stdin is watched from a thread, so that a busy child also notices that its parent is gone.
    threading.Thread(target=_receive_jobs, args=(requests, jobs), daemon=True).start()
    if Trust.OCR.value not in sys.argv and Trust.CONVERT.value not in sys.argv:
        forbid_processes()
    replies.write(READY)
    replies.flush()
    while True:
        request, data = jobs.get()
        if not CAN_LIMIT_OTHERS:  # else the parent did, and this process may not
            limit_cpu(request["cpu_s"])
            limit_memory(request["memory_bytes"])
        try:
            send(replies, *_answer(tasks[request["task"]], data))
        except MemoryError:
            os._exit(EXIT_OUT_OF_MEMORY)


def _take_standard_streams() -> tuple[IO[bytes], IO[bytes]]:
    """Private copies; what a library prints or asks for goes nowhere."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    return requests, replies


def _receive_jobs(requests: IO[bytes], jobs: "queue.SimpleQueue[_Job]") -> None:
    try:
        while True:
            request = receive_message(requests)
            jobs.put((request, receive(requests, request["num_bytes"])))
    finally:
        os._exit(0)


def _read(reader: Reader, data: bytes) -> tuple[dict[str, object], bytes]:
    return reply_of(reader.read(data))


def _answer(task: Task, data: bytes) -> tuple[dict[str, object], bytes]:
    try:
        return task(data)
    except ReadError as error:
        return refusal_of(error), b""
    except MemoryError:
        raise
    except Exception as error:
        message = one_line(f"{type(error).__name__}: {error}")[:200]
        return refusal_of(ReadError(Reason.UNREADABLE, message)), b""


def limit_cpu(seconds: int) -> None:
    """From now on; the limit counts the whole life of the process."""
    if sys.platform != "win32":
        usage = resource.getrusage(resource.RUSAGE_SELF)
        _lower(resource.RLIMIT_CPU, int(usage.ru_utime + usage.ru_stime) + seconds)


def limit_memory(num_bytes: int) -> None:
    if sys.platform != "win32":
        _lower(resource.RLIMIT_AS, num_bytes)


def _lower(limit: int, value: int) -> None:
    """Sets the soft limit, never above the hard one, which stays."""
    if sys.platform != "win32":
        hard = resource.getrlimit(limit)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        # macOS refuses some of these limits; the parent's wall clock remains.
        with suppress(OSError, ValueError):
            resource.setrlimit(limit, (value, hard))


if __name__ == "__main__":
    serve(READERS)
