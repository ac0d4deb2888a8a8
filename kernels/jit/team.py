"""Threads beside the caller's that help with a job if they come in time.

OpenMP's end of a parallel region waits for every thread, also for one that the system has not run
yet: where another program holds a core, each region then takes as long as the scheduler's slice,
some milliseconds, and a token of a small model has a hundred regions. Here jobs divide their work
by stealing, so nobody need be waited for who has not begun: the caller does what is left, closes
the job, and waits only for those inside.

A helper without a job spins for a while, as the next comes soon while decoding, then sleeps.
"""

import atexit
import ctypes
import platform
import sys
import threading
from collections.abc import Callable
from ctypes import Structure, c_int64
from functools import cache

from llvmlite import ir

from kernels.jit import builder
from kernels.jit.builder import I32, I64, POINTER

SPINS = 20_000  # of some 20 ns, before a thread sleeps; between two matmuls pass up to 200 us
_PARALLEL = (POINTER, POINTER, I32, I32)  # as GOMP_parallel has them
_CLOSED, _INSIDE, _ROOM = 1, 2, 1 << 32  # of a job's state: who is inside, who may still come
_FUTEX = {"x86_64": 202, "aarch64": 98}  # the number of the system call
_WAIT, _WAKE = 128, 129  # private to this process
_ALL = 2**31 - 1
_JOIN_S = 1.0


class _Memory(Structure):
    """What the threads share, each word in a cache line of its own."""

    _fields_ = tuple(
        (name, c_int64 * 8)
        for name in ("state", "busy", "jobs", "sleepers", "function", "argument", "stop")
    )


_WORDS = {field[0]: index * 8 for index, field in enumerate(_Memory._fields_)}


class Team:
    """Helpers that live until the process ends. Raises OSError where there are no futexes."""

    def __init__(self) -> None:
        number = _FUTEX.get(platform.machine())
        if number is None or sys.platform != "linux":
            raise OSError("no futex")
        self._memory = _Memory()
        memory, call = ctypes.addressof(self._memory), _syscall()
        self._memory.state[0] = _CLOSED
        self.address = builder.compiled(
            lambda function, _: _Writer(function, memory, call, number).parallel(),
            arguments=_PARALLEL,
            is_kept=False,
        )
        work = builder.compiled(
            lambda function, _: _Writer(function, memory, call, number).work(), is_kept=False
        )
        self._work = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(work)
        wake = builder.compiled(
            lambda function, _: _Writer(function, memory, call, number).end(), is_kept=False
        )
        self._end = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(wake)
        self._threads: list[threading.Thread] = []
        atexit.register(self.close)

    def grow(self, num_helpers: int) -> None:
        """Has at least so many from now on."""
        while len(self._threads) < num_helpers:
            name = f"mm1-helper-{len(self._threads)}"
            thread = threading.Thread(target=self._work, args=(None,), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """Before the code they run is gone."""
        self._end(None)
        for thread in self._threads:
            thread.join(_JOIN_S)


class _Writer:
    def __init__(self, function: ir.Function, memory: int, call: int, number: int) -> None:
        self.function = function
        self.b = b = ir.IRBuilder(function.append_basic_block())
        self.number = I64(number)
        self.system_call = I64(call)
        base = b.inttoptr(I64(memory), POINTER)
        self.words = {
            name: b.gep(base, [I32(index)], source_etype=I64) for name, index in _WORDS.items()
        }

    def load(self, name: str, kind: ir.Type = I64) -> ir.Value:
        return self.b.load_atomic(self.words[name], "seq_cst", 8 if kind is I64 else 4, typ=kind)

    def store(self, value: ir.Value, name: str) -> None:
        self.b.atomic_rmw("xchg", self.words[name], value, "seq_cst")

    def add(self, name: str, value: int) -> ir.Value:
        """What was there before."""
        return self.b.atomic_rmw("add", self.words[name], I64(value), "seq_cst")

    def replace(self, name: str, old: ir.Value, new: ir.Value) -> ir.Value:
        """Whether `old` was there and is now `new`."""
        pair = self.b.cmpxchg(self.words[name], old, new, "seq_cst")
        return self.b.extract_value(pair, 1)

    def futex(self, name: str, operation: int, value: ir.Value) -> None:
        kind = ir.FunctionType(I64, [I64, POINTER, I64, I64, POINTER, POINTER, I64])
        place, nothing = self.words[name], POINTER(None)
        wide = value if value.type == I64 else self.b.zext(value, I64)
        operands = [self.number, place, I64(operation), wide, nothing, nothing, I64(0)]
        builder.call_address(self.b, self.system_call, kind, operands)

    def invoke(self, function: ir.Value, argument: ir.Value) -> None:
        """`function` is an address, as an integer."""
        kind = ir.FunctionType(ir.VoidType(), [POINTER])
        builder.call_address(self.b, function, kind, [argument])

    def pause(self) -> None:
        """Leaves the core to its other hardware thread for a moment."""
        name, arguments = {
            "x86_64": ("llvm.x86.sse2.pause", []),
            "aarch64": ("llvm.aarch64.hint", [I32(1)]),
        }[platform.machine()]
        kinds = [argument.type for argument in arguments]
        kind = ir.FunctionType(ir.VoidType(), kinds)
        self.b.call(ir.Function(self.function.module, kind, name), arguments)

    def blocks(self, count: int) -> list[ir.Block]:
        return [self.b.append_basic_block() for _ in range(count)]

    def enter(self, block: ir.Block) -> None:
        self.b.branch(block)
        self.b.position_at_end(block)

    def spin_until(
        self, reached: Callable[[], tuple[ir.Value, ir.Value]], sleep: Callable[[ir.Value], None]
    ) -> ir.Value:
        """The word that `reached` gave when it said so; `sleep` gets it after SPINS in vain."""
        b = self.b
        restart, again, rest, tired, done = self.blocks(5)
        self.enter(restart)
        b.branch(again)
        b.position_at_end(again)
        turn = b.phi(I64)
        turn.add_incoming(I64(0), restart)
        word, is_reached = reached()
        b.cbranch(is_reached, done, rest)
        b.position_at_end(rest)
        self.pause()
        following = b.add(turn, I64(1))
        turn.add_incoming(following, rest)
        b.cbranch(b.icmp_signed("<", following, I64(SPINS)), again, tired)
        b.position_at_end(tired)
        sleep(word)
        b.branch(restart)
        b.position_at_end(done)
        return word

    def parallel(self) -> None:
        """What GOMP_parallel does: the job on this thread, and on helpers that come in time."""
        b = self.b
        job, argument, count, _ = self.function.args
        address = b.ptrtoint(job, I64)
        ask, alone, shared, wake, run, done = self.blocks(6)
        b.cbranch(b.icmp_signed(">", count, I32(1)), ask, alone)
        b.position_at_end(ask)
        b.cbranch(self.replace("busy", I64(0), I64(1)), shared, alone)
        b.position_at_end(alone)  # also within a job, and beside another thread's
        self.invoke(address, argument)
        b.ret_void()
        b.position_at_end(shared)
        helpers = b.sext(b.sub(count, I32(1)), I64)
        self.store(address, "function")
        self.store(b.ptrtoint(argument, I64), "argument")
        self.store(b.mul(helpers, I64(_ROOM)), "state")
        self.add("jobs", 1)
        b.cbranch(b.icmp_signed(">", self.load("sleepers"), I64(0)), wake, run)
        b.position_at_end(wake)
        self.futex("jobs", _WAKE, helpers)
        self.enter(run)
        self.invoke(address, argument)
        b.atomic_rmw("or", self.words["state"], I64(_CLOSED), "seq_cst")

        def are_all_out() -> tuple[ir.Value, ir.Value]:
            low = self.load("state", I32)
            return low, b.icmp_unsigned("<", low, I32(_INSIDE))

        self.spin_until(are_all_out, lambda low: self.futex("state", _WAIT, low))
        self.enter(done)
        self.store(I64(0), "busy")
        b.ret_void()

    def work(self) -> None:
        """A helper's life: waits for a job, joins it if there is room, until told to stop."""
        b = self.b
        seen = b.alloca(I32)
        b.store(I32(0), seen)
        wait, ask, may, inside, last, end = self.blocks(6)
        self.enter(wait)
        before = b.load(seen, typ=I32)

        def is_new() -> tuple[ir.Value, ir.Value]:
            number = self.load("jobs", I32)
            return number, b.icmp_signed("!=", number, before)

        def sleep(_: ir.Value) -> None:
            self.add("sleepers", 1)
            self.futex("jobs", _WAIT, before)
            self.add("sleepers", -1)

        b.store(self.spin_until(is_new, sleep), seen)
        b.cbranch(b.icmp_signed("!=", self.load("stop"), I64(0)), end, ask)
        b.position_at_end(ask)
        state = self.load("state")
        is_open = b.icmp_signed("==", b.and_(state, I64(_CLOSED)), I64(0))
        has_room = b.icmp_signed(">=", state, I64(_ROOM))
        b.cbranch(b.and_(is_open, has_room), may, wait)
        b.position_at_end(may)
        taken = self.replace("state", state, b.add(state, I64(_INSIDE - _ROOM)))
        b.cbranch(taken, inside, ask)
        b.position_at_end(inside)
        self.invoke(self.load("function"), b.inttoptr(self.load("argument"), POINTER))
        left = b.trunc(self.add("state", -_INSIDE), I32)
        b.cbranch(b.icmp_signed("==", left, I32(_INSIDE + _CLOSED)), last, wait)
        b.position_at_end(last)
        self.futex("state", _WAKE, I64(1))
        b.branch(wait)
        b.position_at_end(end)
        b.ret_void()

    def end(self) -> None:
        """Tells every helper to stop."""
        self.store(I64(1), "stop")
        self.add("jobs", 1)
        self.futex("jobs", _WAKE, I64(_ALL))
        self.b.ret_void()


def _syscall() -> int:
    function = ctypes.CDLL(None).syscall
    return ctypes.cast(function, ctypes.c_void_p).value or 0


@cache
def team() -> Team | None:
    """The one of this process; None where there can be none. In a child that was forked it has no
    helpers, so that whoever asks does all the work."""
    try:
        return Team()
    except (ImportError, OSError, AttributeError, RuntimeError):
        return None
