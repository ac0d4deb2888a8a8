"""JIT of norms of few float32 rows.

A row's squares are summed in LANES lanes and then in one order, so its bits do not depend on the
rows beside it.
"""

from ctypes import Structure, c_double, c_int64, c_void_p
from functools import cache

from llvmlite import ir

from kernels.jit import builder
from kernels.jit.builder import F32, I64, VECTOR, FunctionBuilder


class KernelArgs(Structure):
    """Norms of `rows` x `groups` runs of `width` elements."""

    _fields_ = (
        ("x", c_void_p),  # [rows, groups, width]
        ("block", c_void_p),  # as x, for the norm of a sum
        ("weight", c_void_p),  # [groups, width]
        ("total", c_void_p),  # as x, for the norm of a sum
        ("out", c_void_p),
        ("rows", c_int64),
        ("groups", c_int64),
        ("width", c_int64),
        ("alpha", c_double),
        ("beta", c_double),
        ("eps", c_double),
    )


@cache
def compiled(of_sum: bool) -> int:
    """The address of the function that does a `KernelArgs`."""
    return builder.compiled(lambda function, _: write(function, of_sum))


def write(function: ir.Function, of_sum: bool) -> None:
    program = FunctionBuilder(function, 5, 6)
    b = program.b
    x, block, weight, total, out, rows, groups, width = program.fields[:8]
    alpha, beta, eps = (program.real(field) for field in (8, 9, 10))
    with (
        program.loop(I64(0), rows, 1) as row,
        program.loop(I64(0), groups, 1) as group,
    ):
        first = b.mul(b.add(b.mul(row, groups), group), width)
        lanes, square = program.local(VECTOR(None)), program.local(F32(0.0))
        normed = total if of_sum else x
        for at, count in program.columns(width):
            place = b.add(first, at)
            numbers = program.load(x, F32, place, count)
            if of_sum:
                numbers = b.fmul(program.broadcast_if_vector(alpha, count), numbers)
                added = program.load(block, F32, place, count)
                numbers = program.fma(program.broadcast_if_vector(beta, count), added, numbers)
                program.store(numbers, total, place)
            program.fma_into(lanes if count else square, numbers, numbers)
        mean = b.fadd(program.lane_sum(b.load(lanes, typ=VECTOR)), b.load(square, typ=F32))
        mean = b.fdiv(mean, b.sitofp(width, F32))
        scale = b.fdiv(F32(1.0), program.sqrt(b.fadd(mean, eps)))
        for at, count in program.columns(width):
            place = b.add(first, at)
            numbers = b.fmul(
                program.load(normed, F32, place, count), program.broadcast_if_vector(scale, count)
            )
            weights = program.load(weight, F32, b.add(b.mul(group, width), at), count)
            program.store(b.fmul(numbers, weights), out, place)
    b.ret_void()
