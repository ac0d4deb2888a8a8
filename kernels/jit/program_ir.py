"""JIT of what runs a program: see program.py."""

from ctypes import Structure, c_int64, c_void_p
from functools import cache

from llvmlite import ir

from kernels.jit import builder
from kernels.jit.builder import I32, I64, POINTER, FunctionBuilder
from kernels.jit.program import PARALLEL, THREADS

MOST_BYTES = 256  # of a call's argument
_WORDS = MOST_BYTES // 8


class Entry(Structure):
    """A call. Without `num_words` its argument is where `words` says."""

    _fields_ = (
        ("function", c_int64),
        ("words", c_int64),  # int64[num_words]
        ("slots", c_int64),  # int64[num_words], numbers of what is added to each word
        ("num_words", c_int64),
        ("is_parallel", c_int64),
    )


class ProgramArgs(Structure):
    _fields_ = (
        ("calls", c_void_p),  # Entry[num_calls]
        ("slots", c_void_p),  # int64[]
        ("num_calls", c_int64),
    )


@cache
def compiled() -> int:
    """The address of the function that does a `ProgramArgs`."""
    return builder.compiled(lambda function, _: write(function))


def write(function: ir.Function) -> None:
    p = FunctionBuilder(function, 2, 1)
    b = p.b
    calls, slots, num_calls = p.fields
    room = b.alloca(I64, I64(_WORDS))
    room.align = 64  # threads count in it
    own = b.inttoptr(b.ptrtoint(room, I64), POINTER)
    threads, parallel = (p.load(slots, I64, I64(one.number)) for one in (THREADS, PARALLEL))
    with p.loop(I64(0), num_calls, 1) as number:
        entry = p.at(calls, I64, b.mul(number, I64(len(Entry._fields_))))
        address, *addresses, num_words, is_parallel = (
            p.load(entry, I64, I64(at)) for at in range(len(Entry._fields_))
        )
        words, numbers = (b.inttoptr(one, POINTER) for one in addresses)
        with p.loop(I64(0), num_words, 1) as at:
            more = p.load(slots, I64, p.load(numbers, I64, at))
            b.store(b.add(p.load(words, I64, at), more), p.at(own, I64, at))
        is_given = b.icmp_signed("==", num_words, I64(0))
        argument = b.select(is_given, words, own)
        is_joint = b.icmp_signed("!=", b.mul(is_parallel, parallel), I64(0))
        with b.if_else(is_joint) as (joint, alone):
            with joint:
                count = b.trunc(threads, I32)
                p.call(parallel, [b.inttoptr(address, POINTER), argument, count, I32(0)])
            with alone:
                p.call(address, [argument])
    b.ret_void()
