"""JIT of norms of few float32 rows, and of residual sums.

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
        ("block", c_void_p),  # as x, for a sum
        ("weight", c_void_p),  # [groups, width]
        ("total", c_void_p),  # as x, for a sum
        ("out", c_void_p),
        ("rows", c_int64),
        ("groups", c_int64),
        ("width", c_int64),
        ("alpha", c_double),
        ("beta", c_double),
        ("eps", c_double),
    )


_ALPHA, _BETA, _EPS = 8, 9, 10  # fields


@cache
def compiled(of_sum: bool) -> int:
    """The address of the function that does a `KernelArgs`."""
    return builder.compiled(lambda function, _: write(function, of_sum))


def write(function: ir.Function, of_sum: bool) -> None:
    program = FunctionBuilder(function, 5, 6)
    b = program.b
    x, _, weight, total, out, rows, groups, width = program.fields[:8]
    eps = program.real(_EPS)
    with (
        program.loop(I64(0), rows, 1) as row,
        program.loop(I64(0), groups, 1) as group,
    ):
        first = b.mul(b.add(b.mul(row, groups), group), width)
        lanes, square = program.local(VECTOR(None)), program.local(F32(0.0))
        normed = total if of_sum else x
        for at, count in program.columns(width):
            place = b.add(first, at)
            if of_sum:
                numbers = _residual(program, place, count)
                program.store(numbers, total, place)
            else:
                numbers = program.load(x, F32, place, count)
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


@cache
def compiled_sum() -> int:
    """The address of the function that does no more than the sum of a `KernelArgs`."""
    return builder.compiled(lambda function, _: write_sum(function))


def write_sum(function: ir.Function) -> None:
    program = FunctionBuilder(function, 5, 6)
    b, total = program.b, program.fields[3]
    rows, groups, width = program.fields[5:8]
    for at, count in program.columns(b.mul(b.mul(rows, groups), width)):
        program.store(_residual(program, at, count), total, at)
    b.ret_void()


def _residual(program: FunctionBuilder, at: ir.Value, count: int) -> ir.Value:
    """alpha x + beta block of `count` elements, or one (0), from `at` on."""
    alpha, beta = (
        program.broadcast_if_vector(program.real(field), count) for field in (_ALPHA, _BETA)
    )
    skip, block = (program.load(one, F32, at, count) for one in program.fields[:2])
    return program.fma(beta, block, program.b.fmul(alpha, skip))
