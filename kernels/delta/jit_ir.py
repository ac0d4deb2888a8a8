"""JIT of a few float32 tokens: the gated delta rule itself, and the convolution before it.

Tokens go one by one, so what they give does not depend on how many come at once. Of a head's state
LANES columns at a time are read for what is known of the key, and again, from the nearest cache,
to be written; threads take heads.
"""

from ctypes import Structure, c_int64, c_void_p
from functools import cache

from llvmlite import ir

from kernels.jit import builder
from kernels.jit.builder import F32, I32, I64, LANES, VECTOR, FunctionBuilder


class RecurrenceArgs(Structure):
    """Strides are in elements. Threads take a value head at a time from `next` on."""

    _fields_ = (
        ("q", c_void_p),  # [T, G, D]
        ("k", c_void_p),
        ("v", c_void_p),  # [T, H, E]
        ("decay", c_void_p),  # [T, H]
        ("beta", c_void_p),  # [T, H]
        ("before", c_void_p),  # [H, D, E]
        ("state", c_void_p),  # [H, D, E], what it becomes
        ("out", c_void_p),  # [T, H, E]
        ("tokens", c_int64),
        ("heads", c_int64),  # H
        ("ratio", c_int64),  # H / G
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


class ConvolutionArgs(Structure):
    _fields_ = (
        ("rows", c_void_p),  # [K - 1 + T, C]
        ("weight", c_void_p),  # [C, K]
        ("bias", c_void_p),  # [C]
        ("out", c_void_p),  # [T, C]
        ("tokens", c_int64),
        ("channels", c_int64),
    )


@cache
def recurrence() -> int:
    """The address of the function that does its part of a `RecurrenceArgs`."""
    return builder.compiled(lambda function, _: write_recurrence(function))


@cache
def convolution(taps: int, has_bias: bool, silu: bool) -> int:
    """The address of the function that does a `ConvolutionArgs`."""
    return builder.compiled(lambda function, _: write_convolution(function, taps, has_bias, silu))


def write_recurrence(function: ir.Function) -> None:
    program = FunctionBuilder(function, 8, 12)
    b = program.b
    q, k, v, decay, beta, before, state, out = program.fields[:8]
    tokens, heads, ratio, width, out_width = program.fields[8:13]
    strides = program.fields[13:19]
    with program.work_stealing_loop(program.places[19], I64(1), heads) as (head, _):
        key_head = b.sdiv(head, ratio)
        first = b.mul(head, b.mul(width, out_width))
        old, new = (program.at(base, F32, first) for base in (before, state))
        with program.loop(I64(0), tokens, 1) as token:
            source = b.select(b.icmp_signed("==", token, I64(0)), old, new)
            q_row, k_row, v_row = (
                program.at(base, F32, b.add(b.mul(token, stride), b.mul(own, head_stride)))
                for base, own, stride, head_stride in zip(
                    (q, k, v), (key_head, key_head, head), strides[::2], strides[1::2], strict=True
                )
            )
            gate = b.add(b.mul(token, heads), head)
            kept_lanes = program.exponential(program.broadcast(program.load(decay, F32, gate)))
            rate = program.load(beta, F32, gate)
            result = program.at(out, F32, b.mul(gate, out_width))
            for at, count in program.columns(out_width):
                kept = kept_lanes if count else b.extract_element(kept_lanes, I32(0))
                zero = VECTOR(None) if count else F32(0.0)
                known, read = program.local(zero), program.local(zero)
                with program.loop(I64(0), width, 1) as row:
                    key = program.broadcast_if_vector(program.load(k_row, F32, row), count)
                    place = b.add(b.mul(row, out_width), at)
                    program.fma_into(known, key, program.load(source, F32, place, count))
                values = program.load(v_row, F32, at, count)
                missing = program.fma(b.fneg(kept), b.load(known, typ=zero.type), values)
                written = b.fmul(program.broadcast_if_vector(rate, count), missing)
                with program.loop(I64(0), width, 1) as row:
                    key, query = (
                        program.broadcast_if_vector(program.load(one, F32, row), count)
                        for one in (k_row, q_row)
                    )
                    place = b.add(b.mul(row, out_width), at)
                    moved = b.fmul(kept, program.load(source, F32, place, count))
                    moved = program.fma(key, written, moved)
                    program.store(moved, new, place)
                    program.fma_into(read, query, moved)
                program.store(b.load(read, typ=zero.type), result, at)


def write_convolution(function: ir.Function, taps: int, has_bias: bool, silu: bool) -> None:
    program = FunctionBuilder(function, 4, 2)
    b = program.b
    rows, weight, bias, out, tokens, channels = program.fields
    for at, count in program.columns(channels):
        weights = _taps_of(program, weight, b.mul(at, I64(taps)), taps, count)
        with program.loop(I64(0), tokens, 1) as token:
            place = b.add(b.mul(token, channels), at)
            total = program.load(bias, F32, at, count) if has_bias else None
            for tap, own in enumerate(weights):
                number = program.load(rows, F32, b.add(place, b.mul(I64(tap), channels)), count)
                total = b.fmul(own, number) if total is None else program.fma(own, number, total)
            program.store(program.silu(total) if silu else total, out, place)
    b.ret_void()


def _taps_of(
    program: FunctionBuilder, weight: ir.Value, start: ir.Value, taps: int, count: int
) -> list[ir.Value]:
    """Of LANES channels, or of one, a value for each tap; a channel's taps lie together."""
    if not count:
        return [program.load(weight, F32, program.b.add(start, I64(tap))) for tap in range(taps)]
    together = program.load(weight, F32, start, LANES * taps)
    nothing = together.type(ir.Undefined)
    return [
        program.b.shuffle_vector(
            together,
            nothing,
            ir.VectorType(I32, LANES)(list(range(tap, LANES * taps, taps))),
        )
        for tap in range(taps)
    ]
