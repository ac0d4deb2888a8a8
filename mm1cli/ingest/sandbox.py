"""Runs readers in a child process, so that a hostile file costs one omission and not the run.

The child (`sandbox_child`) is started at the first file and reused; one that breaks a limit or
dies is replaced. A message is 8 bytes of length (big-endian) and that much JSON; a request is
followed by the file's bytes, so the child opens no file and reads exactly what was hashed. A reply
is followed by the bytes of the members it names.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

from mm1cli.ingest.confine import Trust
from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.reader import MAX_MEMBER_BYTES, MIB, ReadError, Reading
from mm1cli.ingest.wire_format import reading_from, refusal_from

if sys.platform != "win32":
    import resource

T = TypeVar("T")

CAN_LIMIT_OTHERS = sys.platform == "linux"
_PASSED_ON = (
    "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "TESSDATA_PREFIX", "SYSTEMROOT",
    "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH",
)  # fmt: skip

EXIT_OUT_OF_MEMORY = 3
_EXIT_OUT_OF_CPU = -signal.SIGXCPU if sys.platform != "win32" else None
_LENGTH_BYTES = 8
READY = b"ready"  # what a child says first
_START_S = 60.0  # imports, on a busy machine with a cold disk
_CLOSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one file may cost. CPU and memory are not limited where the platform cannot."""

    wall_s: float = 60.0
    cpu_s: int = 60
    memory_bytes: int = 2048 * MIB
    reply_bytes: int = 256 * MIB


CONVERTING = Limits(memory_bytes=4096 * MIB)  # LibreOffice maps much that it never touches


class Sandbox:
    """A context manager; not for use from two threads at once, but for `abort`."""

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        child_module: str = "mm1cli.ingest.sandbox_child",
        trust: Trust = Trust.READER,
    ) -> None:
        self._limits, self._trust = limits or Limits(), trust
        self._child_module = child_module
        self._child: subprocess.Popen[bytes] | None = None
        self._has_started = False
        self._is_aborted = False
        self._converter: Sandbox | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def read(self, reader: str, data: bytes, *, patience: int = 1) -> Reading:
        """What the reader named `reader` makes of `data`. Raises ReadError as that reader does,
        and for a breach as `ask`.
        """
        return self.ask(reader, data, reading_from, patience=patience)

    def ask(
        self,
        task: str,
        data: bytes,
        understand: Callable[[dict[str, Any]], T],
        *,
        patience: int = 1,
    ) -> T:
        """What the child's task of that name makes of `data`, as `understand` checks it.

        `understand` raises KeyError, TypeError or ValueError for a malformed message. Raises
        BrokeReaderError for a breach: TOO_SLOW, TOO_LARGE (the reply) or UNREADABLE. The limits of
        time are `patience` times those of the sandbox, and begin when the child has started.
        """
        child = self._running()
        out_of_time = threading.Event()

        def stop() -> None:
            out_of_time.set()
            _kill_with_its_own(child)

        wall_s = self._limits.wall_s * patience
        timer = threading.Timer(_START_S, stop)
        timer.daemon = True
        timer.start()
        try:
            self._await_start(child)
            timer.cancel()
            timer = threading.Timer(wall_s, stop)
            timer.daemon = True
            timer.start()
            reply = self._exchange(child, task, data, patience)
        except (OSError, EOFError, ValueError, TypeError, KeyError, AttributeError):
            self._wait()
            raise self._breach(child.returncode, wall_s if out_of_time.is_set() else None) from None
        except BaseException:
            self._kill()
            raise
        finally:
            timer.cancel()
        if out_of_time.is_set():
            # Too late for this file; the next one needs another child.
            self._kill()
        try:
            if "reason" in reply:
                raise refusal_from(reply)
            return understand(reply)
        except (KeyError, TypeError, ValueError):
            self._kill()
            raise BrokeReaderError(Reason.UNREADABLE, "reader gave a malformed reply") from None

    def replace(self) -> None:
        """The next file gets another child: this one may be what the last one made of it."""
        self._kill()

    def converter(self) -> "Sandbox":
        """One whose child may start programs, for a single file; `abort` ends it, too."""
        self._converter = Sandbox(limits=CONVERTING, trust=Trust.CONVERT)
        if self._is_aborted:
            self._converter.abort()
        return self._converter

    def close(self) -> None:
        """Ends the child; a later `read` starts another."""
        if self._child is not None and self._child.stdin is not None:
            with suppress(OSError):
                self._child.stdin.close()
        self._wait()

    def abort(self) -> None:
        """Ends the child now, and for good; may be called while another thread reads."""
        self._is_aborted = True
        if self._converter is not None:
            self._converter.abort()
        if (child := self._child) is not None:
            _kill_with_its_own(child)

    def _running(self) -> "subprocess.Popen[bytes]":
        if not self._is_aborted and (self._child is None or self._child.poll() is not None):
            self._kill()
            self._child = _start(self._child_module, self._trust)
            self._has_started = False
        if self._child is None or self._is_aborted:  # perhaps while the child was started
            self._kill()
            raise BrokeReaderError(Reason.UNREADABLE, "the run was stopped")
        return self._child

    def _await_start(self, child: "subprocess.Popen[bytes]") -> None:
        if not self._has_started:
            assert child.stdout is not None
            receive(child.stdout, len(READY))
            self._has_started = True

    def _wait(self) -> None:
        """Lets the child end by itself, for its exit status, then makes sure of it."""
        if self._child is not None:
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(_CLOSE_S)
        self._kill()

    def _kill(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        _kill_with_its_own(child)
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                # It fails on unsent bytes of a request, and closes all the same.
                with suppress(OSError):
                    pipe.close()

    def _exchange(
        self, child: "subprocess.Popen[bytes]", task: str, data: bytes, patience: int
    ) -> Any:  # noqa: ANN401
        assert child.stdin is not None and child.stdout is not None
        request = {
            "task": task,
            "num_bytes": len(data),
            "cpu_s": self._limits.cpu_s * patience,
            "memory_bytes": self._limits.memory_bytes,
        }
        _limit(child, self._limits.cpu_s * patience, self._limits.memory_bytes)
        send(child.stdin, request, data)
        length = int.from_bytes(receive(child.stdout, _LENGTH_BYTES))
        if length > self._limits.reply_bytes:
            limit = f"more than {self._limits.reply_bytes // MIB} MiB of text"
            raise BrokeReaderError(Reason.TOO_LARGE, limit)
        reply = json.loads(receive(child.stdout, length))
        for member in reply.get("members", ()):
            if not 0 <= member["num_bytes"] <= MAX_MEMBER_BYTES:
                raise ValueError(member["num_bytes"])
            member["data"] = receive(child.stdout, member.pop("num_bytes"))
        return reply

    def _breach(self, status: int | None, over_s: float | None) -> "BrokeReaderError":
        if over_s is not None:
            return BrokeReaderError(Reason.TOO_SLOW, f"stopped after {over_s:g} s")
        if status == _EXIT_OUT_OF_CPU:
            limit = f"stopped after {self._limits.cpu_s} s of CPU time"
            return BrokeReaderError(Reason.TOO_SLOW, limit)
        if status == EXIT_OUT_OF_MEMORY:
            return BrokeReaderError(Reason.UNREADABLE, "reader ran out of memory")
        return BrokeReaderError(Reason.UNREADABLE, "reader crashed")


class BrokeReaderError(ReadError):
    """The file broke a limit or the reader itself: another reader may do better."""


def send(pipe: IO[bytes], message: object, data: bytes = b"") -> None:
    content = json.dumps(message).encode()
    pipe.write(len(content).to_bytes(_LENGTH_BYTES))
    pipe.write(content)
    pipe.write(data)
    pipe.flush()


def receive(pipe: IO[bytes], num_bytes: int) -> bytes:
    """Raises EOFError if the other side closes first."""
    content = pipe.read(num_bytes)
    if len(content) < num_bytes:
        raise EOFError
    return content


def receive_message(pipe: IO[bytes]) -> Any:  # noqa: ANN401
    return json.loads(receive(pipe, int.from_bytes(receive(pipe, _LENGTH_BYTES))))


def _kill_with_its_own(child: "subprocess.Popen[bytes]") -> None:
    """The child and what it has started, which is in the session that `_start` gave it."""
    if sys.platform != "win32" and child.returncode is None:
        with suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)
    child.kill()


def _limit(child: "subprocess.Popen[bytes]", cpu_s: int, memory_bytes: int) -> None:
    """For the next file; a confined child may not raise its own limits. Raises OSError."""
    if sys.platform == "linux":
        resource.prlimit(child.pid, resource.RLIMIT_AS, _up_to(resource.RLIMIT_AS, memory_bytes))
        limit_s = _cpu_s(child.pid) + cpu_s
        resource.prlimit(child.pid, resource.RLIMIT_CPU, _up_to(resource.RLIMIT_CPU, limit_s))


def _up_to(limit: int, value: int) -> tuple[int, int]:
    """The soft limit, never above our own hard one, which stays."""
    if sys.platform == "win32":
        return value, value
    hard = resource.getrlimit(limit)[1]
    return value if hard == resource.RLIM_INFINITY else min(value, hard), hard


def _cpu_s(process: int) -> int:
    """CPU time so far, in whole seconds. Raises OSError."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) // os.sysconf("SC_CLK_TCK")


def _environment() -> dict[str, str]:
    """What a child gets of ours: nothing that could be a secret."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def _start(module: str, trust: Trust) -> "subprocess.Popen[bytes]":
    # -P and our own folder in PYTHONPATH: with a plain -m, modules in the current folder, which
    # may be the very folder of documents, would be imported before the libraries; the same with a
    # "." in ours.
    package_root = str(Path(__file__).resolve().parents[2])
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [package_root, *(path for path in given if Path(path).is_absolute())]
    return subprocess.Popen(
        [sys.executable, "-P", "-W", "ignore", "-m", module, trust.value],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**_environment(), "PYTHONPATH": os.pathsep.join(paths)},
        # Ctrl-C is for the parent, which ends the child.
        start_new_session=True,
    )
