"""Rows of x as integers, 32 columns to a scale: see row_form.py.

As int16 the largest magnitude of 32 becomes 32,767. So an element is off by at most a 65,534th of
it, and a dot product by less than 9e-5 of the product of the norms, whatever x holds; for normal
numbers it is 2e-5. Activations have columns many times as large as the rest: each costs its 31
neighbours their precision, no more. As int8 it becomes 127: kernels/linear/int8_rows.py.
int16 lie as unpack_ir.py has codes: of every 32 columns first the even ones, then the odd ones;
int8 lie in order.
"""

from collections.abc import Sequence
from ctypes import Structure, c_int64, c_void_p
from functools import cache

from llvmlite import ir

from kernels.jit import builder
from kernels.jit.builder import F32, I32, I64, INTEGERS, LANES, VECTOR, FunctionBuilder
from kernels.linear.ggml.row_form import RowForm
from kernels.linear.ggml.unpack_ir import PART
from kernels.linear.int8_rows import LEAST

_ROUNDING = 1.5 * 2**23  # added to a float32 it leaves its integer in the low bits
_MAGNITUDE = 2**31 - 1  # the bits of a float32 without the sign


class PackArgs(Structure):
    """Threads take `chunk` rows at a time from `next` on."""

    _fields_ = (
        ("x", c_void_p),  # [rows, width] float32, width a multiple of PART
        ("packed", c_void_p),  # [rows, width] int16 or int8
        ("scales", c_void_p),  # [rows, width / 32] float32
        ("sums", c_void_p),  # [rows, width / 32] float32, of what was packed
        ("half_sums", c_void_p),  # [rows, width / 16] float32
        ("rows", c_int64),
        ("width", c_int64),
        ("chunk", c_int64),
        ("next", c_int64),
    )


@cache
def compiled(form: RowForm) -> int:
    return builder.compiled(lambda function, _: write(function, form))


def write(function: ir.Function, form: RowForm) -> None:
    p = FunctionBuilder(function, 5, 4)
    b = p.b
    x, packed, scales, sums, half_sums, rows, width, chunk, _ = p.fields
    parts = b.sdiv(width, I64(PART))
    with (
        p.work_stealing_loop(p.places[-1], chunk, rows) as (first, stop),
        p.loop(b.mul(first, parts), b.mul(stop, parts), 1) as part,
    ):
        at = b.mul(part, I64(PART))
        values = [p.load(x, F32, b.add(at, I64(half)), LANES) for half in (0, LANES)]
        scale, inverse = _scale(p, values, float(form.largest))
        p.store(scale, scales, part)
        halves = [_integers(p, value, inverse) for value in values]
        totals = [b.sitofp(p.horizontal_reduce(half, b.add), F32) for half in halves]
        for number, total in enumerate(totals):
            where = b.add(b.mul(part, I64(2)), I64(number))
            p.store(b.fmul(total, scale), half_sums, where)
        p.store(b.fmul(b.fadd(*totals), scale), sums, part)
        integer = ir.IntType(8 * form.num_bytes)
        narrow = [b.trunc(half, ir.VectorType(integer, LANES)) for half in halves]
        for number in (0, 1):
            if form is not RowForm.INT8:
                order = ir.VectorType(I32, LANES)([2 * n + number for n in range(LANES)])
            else:
                order = ir.VectorType(I32, LANES)([n + number * LANES for n in range(LANES)])
            place = p.at(packed, integer, b.add(at, I64(number * LANES)))
            b.store(b.shuffle_vector(*narrow, order), place, align=1)


def _scale(
    p: FunctionBuilder, values: Sequence[ir.Value], largest: float
) -> tuple[ir.Value, ir.Value]:
    """What an integer is worth in two vectors, and its inverse in every lane.

    Magnitudes are compared as integers, which what is not a number is larger than: it stays.
    """
    b = p.b

    def larger(left: ir.Value, right: ir.Value) -> ir.Value:
        return b.select(b.icmp_signed(">", left, right), left, right)

    magnitudes = [
        b.and_(b.bitcast(value, INTEGERS), INTEGERS([_MAGNITUDE] * LANES)) for value in values
    ]
    magnitude = b.bitcast(p.horizontal_reduce(larger(*magnitudes), larger), F32)
    is_zero = b.fcmp_ordered("<", magnitude, F32(LEAST))
    scale = b.fdiv(magnitude, F32(largest))
    inverse = b.select(is_zero, F32(0.0), b.fdiv(F32(largest), magnitude))
    return scale, p.broadcast(inverse)


def _integers(p: FunctionBuilder, value: ir.Value, inverse: ir.Value) -> ir.Value:
    """LANES rounded int32."""
    b, rounding = p.b, VECTOR([_ROUNDING] * LANES)
    rounded = b.bitcast(p.fma(value, inverse, rounding), INTEGERS)
    return b.sub(rounded, INTEGERS([_BITS] * LANES))


_BITS = 0x4B400000  # of _ROUNDING
