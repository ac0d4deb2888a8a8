"""JIT of silu(gate) up of few float32 rows, element by element."""

from ctypes import Structure, c_int64, c_void_p
from functools import cache

from llvmlite import ir

from kernels.jit import builder
from kernels.jit.builder import F32, I64, FunctionBuilder


class KernelArgs(Structure):
    _fields_ = (
        ("gate_up", c_void_p),  # [rows, 2, width]
        ("out", c_void_p),  # [rows, width]
        ("rows", c_int64),
        ("width", c_int64),
    )


@cache
def compiled() -> int:
    """The address of the function that does a `KernelArgs`."""
    return builder.compiled(lambda function, _: write(function))


def write(function: ir.Function) -> None:
    program = FunctionBuilder(function, 2, 2)
    b = program.b
    gate_up, out, rows, width = program.fields
    with program.loop(I64(0), rows, 1) as row:
        first = b.mul(row, width)
        for at, count in program.columns(width):
            place = b.add(b.add(first, first), at)
            gate = program.load(gate_up, F32, place, count)
            up = program.load(gate_up, F32, b.add(place, width), count)
            program.store(b.fmul(program.silu(gate), up), out, b.add(first, at))
    b.ret_void()
