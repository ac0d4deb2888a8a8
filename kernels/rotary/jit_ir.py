"""JIT of the rope of a few tokens' heads, element by element; with `half` 0 a copy of them."""

from ctypes import Structure, c_int64, c_void_p
from functools import cache

from llvmlite import ir

from kernels.jit import builder
from kernels.jit.builder import F32, I64, FunctionBuilder


class KernelArgs(Structure):
    """Strides are in elements. Heads of `x` lie together."""

    _fields_ = (
        ("x", c_void_p),
        ("cosine", c_void_p),  # [tokens, half]
        ("sine", c_void_p),
        ("bias", c_void_p),  # [heads, head_dim], added first, where there is one
        ("out", c_void_p),  # [tokens, heads, head_dim]
        ("tokens", c_int64),
        ("heads", c_int64),
        ("head_dim", c_int64),
        ("half", c_int64),
        ("stride", c_int64),  # of tokens
        ("out_stride", c_int64),
        ("out_head_stride", c_int64),
    )


@cache
def compiled(has_bias: bool) -> int:
    """The address of the function that does a `KernelArgs`."""
    return builder.compiled(lambda function, _: write(function, has_bias))


def write(function: ir.Function, has_bias: bool) -> None:
    program = FunctionBuilder(function, 5, 7)
    b = program.b
    x, cosine, sine, bias, out, tokens, heads, head_dim, half = program.fields[:9]
    stride, out_stride, out_head_stride = program.fields[9:]
    with (
        program.loop(I64(0), tokens, 1) as token,
        program.loop(I64(0), heads, 1) as head,
    ):
        within = b.mul(head, head_dim)
        source = program.at(x, F32, b.add(b.mul(token, stride), within))
        place = b.add(b.mul(token, out_stride), b.mul(head, out_head_stride))
        target = program.at(out, F32, place)

        def load(at: ir.Value, count: int) -> ir.Value:
            number = program.load(source, F32, at, count)
            if not has_bias:
                return number
            return b.fadd(number, program.load(bias, F32, b.add(within, at), count))

        angles = b.mul(token, half)
        for at, count in program.columns(half):
            first, second = load(at, count), load(b.add(at, half), count)
            cos, sin = (program.load(one, F32, b.add(angles, at), count) for one in (cosine, sine))
            program.store(b.fsub(b.fmul(first, cos), b.fmul(second, sin)), target, at)
            rotated = b.fadd(b.fmul(second, cos), b.fmul(first, sin))
            program.store(rotated, target, b.add(at, half))
        passed = b.add(half, half)
        for at, count in program.columns(b.sub(head_dim, passed)):
            place = b.add(passed, at)
            program.store(load(place, count), target, place)
    b.ret_void()
