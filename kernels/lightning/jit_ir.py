"""JIT of Lightning Attention of few float32 tokens: the recurrence itself.

Tokens go one by one, so what they give does not depend on how many come at once. A head's state is
read and written once for each token; threads take heads.
"""

from ctypes import Structure, c_int64, c_void_p
from functools import cache

from llvmlite import ir

from kernels.jit import builder
from kernels.jit.builder import F32, I32, I64, VECTOR, FunctionBuilder


class KernelArgs(Structure):
    """Strides are in elements. Threads take a head at a time from `next` on."""

    _fields_ = (
        ("q", c_void_p),  # [T, H, D]
        ("k", c_void_p),
        ("v", c_void_p),  # [T, H, E]
        ("slopes", c_void_p),  # [H]
        ("before", c_void_p),  # [H, D, E]
        ("state", c_void_p),  # [H, D, E], what it becomes
        ("out", c_void_p),  # [T, H, E]
        ("tokens", c_int64),
        ("heads", c_int64),
        ("width", c_int64),  # D
        ("out_width", c_int64),  # E
        ("q_stride", c_int64),
        ("q_head_stride", c_int64),
        ("k_stride", c_int64),
        ("k_head_stride", c_int64),
        ("v_stride", c_int64),
        ("v_head_stride", c_int64),
        ("next", c_int64),
    )


@cache
def compiled() -> int:
    """The address of the function that does its part of a `KernelArgs`."""
    return builder.compiled(lambda function, _: write(function))


def write(function: ir.Function) -> None:
    program = FunctionBuilder(function, 7, 11)
    b = program.b
    q, k, v, slopes, before, state, out, tokens, heads, width, out_width = program.fields[:11]
    strides = program.fields[11:17]
    with program.work_stealing_loop(program.places[17], I64(1), heads) as (head, _):
        slope = program.broadcast(program.load(slopes, F32, head))
        decays = program.exponential(b.fneg(slope))
        decay = b.extract_element(decays, I32(0))
        first = b.mul(head, b.mul(width, out_width))
        old, new = (program.at(base, F32, first) for base in (before, state))
        with program.loop(I64(0), tokens, 1) as token:
            source = b.select(b.icmp_signed("==", token, I64(0)), old, new)
            q_row, k_row, v_row = (
                program.at(base, F32, b.add(b.mul(token, stride), b.mul(head, head_stride)))
                for base, stride, head_stride in zip(
                    (q, k, v), strides[::2], strides[1::2], strict=True
                )
            )
            result = program.at(out, F32, b.mul(b.add(b.mul(token, heads), head), out_width))
            for at, count in program.columns(out_width):
                total = program.local(VECTOR(None) if count else F32(0.0))
                values = program.load(v_row, F32, at, count)
                with program.loop(I64(0), width, 1) as row:
                    place = b.add(b.mul(row, out_width), at)
                    key, query = (
                        program.broadcast_if_vector(program.load(one, F32, row), count)
                        for one in (k_row, q_row)
                    )
                    kept = b.fmul(
                        decays if count else decay, program.load(source, F32, place, count)
                    )
                    sums = program.fma(key, values, kept)
                    program.store(sums, new, place)
                    program.fma_into(total, query, sums)
                program.store(b.load(total, typ=VECTOR if count else F32), result, at)
