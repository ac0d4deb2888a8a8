"""JIT of small M with all parts of a stack in one call: rows packed, then every part's matmul.

All parts are one parallel region: a thread that finds nothing left of a part goes on to the next.
Each region less is a wait less, which is long where another program holds a core.
"""

from ctypes import Structure, c_int64
from functools import cache

from llvmlite import ir

from kernels.jit import builder
from kernels.jit.builder import I64, POINTER, FunctionBuilder
from kernels.linear.ggml.pack_ir import PackArgs
from kernels.linear.ggml.small_m_ir import GemmArgs

_JOB_FIELDS = len(GemmArgs._fields_)


class Part(Structure):
    """One weight of a stack, what does not change from call to call."""

    _fields_ = (
        ("function", c_int64),  # of small_m_ir.py
        ("has_half_groups", c_int64),  # 1 if its groups are of 16 columns
        ("blocks", c_int64),
        ("outs", c_int64),
        ("chunk", c_int64),
        ("first_byte", c_int64),  # of its columns, in a row of the result
    )


class StackArgs(PackArgs):
    """One call; it begins as the PackArgs of its rows."""

    _fields_ = (  # type: ignore[assignment]  # ctypes adds them to those of the base
        ("parts", c_int64),  # Part[num_parts]
        ("num_parts", c_int64),
        ("out", c_int64),  # [rows, out_stride] float32
        ("out_stride", c_int64),
        ("threads", c_int64),
        ("parallel", c_int64),  # GOMP_parallel, 0 to stay on one thread
        ("pack", c_int64),  # compiled functions: of pack_ir.py,
        ("team", c_int64),  # and `write_team`
    )


@cache
def compiled() -> int:
    return builder.compiled(lambda function, _: write(function))


@cache
def compiled_team() -> int:
    return builder.compiled(lambda function, _: write_team(function))


def write(function: ir.Function) -> None:
    """Packs the rows, lays a GemmArgs for each part, and lets the team work."""
    p = FunctionBuilder(function, 5, 4 + len(StackArgs._fields_))
    b, (argument,) = p.b, function.args
    _, packed, scales, sums, half_sums, rows, width, _, _ = p.fields[:9]
    parts, num_parts, out, out_stride, threads, parallel, pack, team = p.fields[9:]
    jobs = b.alloca(I64, b.mul(num_parts, I64(_JOB_FIELDS)))
    work = b.alloca(I64, I64(3))
    p.call(pack, [argument])
    first = b.inttoptr(parts, POINTER)
    with p.loop(I64(0), num_parts, 1) as at:
        part = p.at(first, I64, b.mul(at, I64(len(Part._fields_))))
        _, has_half_groups, blocks, outs, chunk, first_byte = (
            p.load(part, I64, I64(field)) for field in range(len(Part._fields_))
        )
        group_sums = b.select(b.icmp_signed("!=", has_half_groups, I64(0)), half_sums, sums)
        job = p.at(jobs, I64, b.mul(at, I64(_JOB_FIELDS)))
        addresses = [b.ptrtoint(place, I64) for place in (packed, scales, group_sums)]
        place = b.add(out, first_byte)
        values = [*addresses, blocks, place, rows, outs, width, out_stride, chunk, I64(0)]
        for field, value in enumerate(values):
            b.store(value, p.at(job, I64, I64(field)))
    for field, value in enumerate((parts, b.ptrtoint(jobs, I64), num_parts)):
        b.store(value, p.at(work, I64, I64(field)))
    is_alone = b.icmp_signed("==", parallel, I64(0))
    with b.if_else(is_alone) as (alone, together):
        with alone:
            p.call(team, [work])
        with together:
            count = b.trunc(threads, builder.I32)
            p.call(parallel, [b.inttoptr(team, POINTER), work, count, builder.I32(0)])
    b.ret_void()


def write_team(function: ir.Function) -> None:
    """What each thread does: {parts, their GemmArgs, how many}, one after the other."""
    p = FunctionBuilder(function, 2, 1)
    b, (parts, jobs, num_parts) = p.b, p.fields
    with p.loop(I64(0), num_parts, 1) as at:
        part = p.load(parts, I64, b.mul(at, I64(len(Part._fields_))))
        p.call(part, [p.at(jobs, I64, b.mul(at, I64(_JOB_FIELDS)))])
    b.ret_void()
