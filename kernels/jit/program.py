"""Functions of the JIT one after the other in one native call.

At one row Python and torch take longer to begin an operation than most take: a program begins once.
What a function is given are 64-bit words. Most are the same each time; the others, where this
time's rows are and how many, are put in for `Slot`s on the stack of the thread that runs it, so a
program does not change.
"""

import ctypes
import threading
from collections.abc import Sequence
from ctypes import Structure, c_int64
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from kernels.jit import run

if TYPE_CHECKING:
    from kernels.jit import program_ir

_ALIGNMENT = 64  # a cache line
_WORD_BYTES = 8
# Number 0 is always 0: what is added to words that are the same each time.
_ITSELF, _MEMORY, _ROWS, _THREADS, _PARALLEL, _INSERTED, _NUM_INSERTED = range(1, 8)
_FIRST_INPUT = 8


@dataclass(frozen=True, slots=True)
class Slot:
    """A number that is known when a program runs, and `offset` more."""

    number: int
    offset: int = 0

    def __add__(self, offset: int) -> "Slot":
        return Slot(self.number, self.offset + offset)


ROWS = Slot(_ROWS)
THREADS = Slot(_THREADS)
PARALLEL = Slot(_PARALLEL)  # what `run.parallel_address` gives for THREADS, 0 for one
Value = int | float | Slot | None


class Call(NamedTuple):
    """A function and its argument, an `arguments` of `values`, each of 64 bits. A parallel one
    divides its work among threads."""

    function: int
    arguments: type[Structure]
    values: tuple[Value, ...]
    is_parallel: bool = False

    def run(self) -> None:
        """By itself; it must have no slots."""
        arguments = self.arguments(*self.values)
        run.run(self.function, arguments, None if self.is_parallel else 1)


class Program:
    """Calls for up to `run.SMALL_M` rows, in the order in which they were added."""

    def __init__(self, num_inputs: int) -> None:
        self.inputs = [Slot(_FIRST_INPUT + number) for number in range(num_inputs)]
        self._calls: list[Call] = []
        self._num_bytes = 0

    def room(self, row_bytes: int) -> Slot:
        """Memory of each row's `row_bytes` while the program runs."""
        place = Slot(_MEMORY, self._num_bytes)
        self._num_bytes += -(-run.SMALL_M * row_bytes // _ALIGNMENT) * _ALIGNMENT
        return place

    def add(self, *calls: Call) -> None:
        self._calls += calls

    @staticmethod
    def inserted() -> Call:
        """That of those which `run` is given."""
        from kernels.jit import program_ir

        values = (Slot(_INSERTED), Slot(_ITSELF), Slot(_NUM_INSERTED))
        return Call(program_ir.compiled(), program_ir.ProgramArgs, values)

    def memory(self) -> int:
        """Where `room` is on this thread, until another program runs."""
        held: Tensor | None = getattr(_THREAD, "memory", None)
        if held is None or len(held) < self._num_bytes:
            held = _THREAD.memory = torch.empty(self._num_bytes, dtype=torch.uint8)
        return held.data_ptr()

    def run(self, num_rows: int, inputs: Sequence[int], inserted: Sequence[Call] = ()) -> None:
        """`inputs` are what `self.inputs` stand for; `inserted` have no slots."""
        from kernels.jit import program_ir

        num_threads = torch.get_num_threads()
        parallel = run.parallel_address(num_threads) if num_threads > 1 else 0
        given = [(call, call.arguments(*call.values)) for call in inserted]
        entries = (
            program_ir.Entry(call.function, ctypes.addressof(words), 0, 0, call.is_parallel)
            for call, words in given
        )
        calls = (program_ir.Entry * len(given))(*entries)
        slots = (c_int64 * (_FIRST_INPUT + len(inputs)))(
            0,
            0,
            self.memory(),
            num_rows,
            num_threads,
            parallel,
            ctypes.addressof(calls),
            len(given),
            *inputs,
        )
        slots[_ITSELF] = ctypes.addressof(slots)
        laid, _ = self._laid
        args = program_ir.ProgramArgs(ctypes.addressof(laid), ctypes.addressof(slots), len(laid))
        run.run(program_ir.compiled(), args, 1)

    @cached_property
    def _laid(self) -> tuple["ctypes.Array[program_ir.Entry]", list[object]]:
        """The calls as the machine reads them, and the memory that they point into."""
        from kernels.jit import program_ir

        entries, held = (program_ir.Entry * len(self._calls))(), list[object]()
        for entry, call in zip(entries, self._calls, strict=True):
            count = len(call.values)
            assert ctypes.sizeof(call.arguments) == count * _WORD_BYTES <= program_ir.MOST_BYTES
            fixed = (0 if isinstance(value, Slot) else value for value in call.values)
            words = (c_int64 * count).from_buffer(call.arguments(*fixed))
            numbers = (c_int64 * count)()
            for at, value in enumerate(call.values):
                if isinstance(value, Slot):
                    words[at], numbers[at] = value.offset, value.number
            held += [words, numbers]
            entry.function, entry.num_words, entry.is_parallel = (
                call.function,
                count,
                call.is_parallel,
            )
            entry.words, entry.slots = ctypes.addressof(words), ctypes.addressof(numbers)
        return entries, held


_THREAD = threading.local()
