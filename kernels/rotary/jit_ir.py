"""JIT of the rope of a few tokens' heads, element by element."""

from ctypes import Structure, c_int64, c_void_p
from functools import cache

from llvmlite import ir

from kernels.jit import builder
from kernels.jit.builder import F32, I64, FunctionBuilder


class KernelArgs(Structure):
    """Heads of a token lie together, tokens `stride` elements apart."""

    _fields_ = (
        ("x", c_void_p),
        ("cosine", c_void_p),  # [tokens, half]
        ("sine", c_void_p),
        ("out", c_void_p),  # [tokens, heads, head_dim]
        ("tokens", c_int64),
        ("heads", c_int64),
        ("head_dim", c_int64),
        ("half", c_int64),
        ("stride", c_int64),
    )


@cache
def compiled() -> int:
    """The address of the function that does a `KernelArgs`."""
    return builder.compiled(lambda function, _: write(function))


def write(function: ir.Function) -> None:
    program = FunctionBuilder(function, 4, 5)
    b = program.b
    x, cosine, sine, out, tokens, heads, head_dim, half, stride = program.fields
    with (
        program.loop(I64(0), tokens, 1) as token,
        program.loop(I64(0), heads, 1) as head,
    ):
        within = b.mul(head, head_dim)
        source = program.at(x, F32, b.add(b.mul(token, stride), within))
        target = program.at(out, F32, b.add(b.mul(b.mul(token, heads), head_dim), within))
        angles = b.mul(token, half)
        for at, count in program.columns(half):
            first = program.load(source, F32, at, count)
            second = program.load(source, F32, b.add(at, half), count)
            cos, sin = (program.load(one, F32, b.add(angles, at), count) for one in (cosine, sine))
            program.store(b.fsub(b.fmul(first, cos), b.fmul(second, sin)), target, at)
            rotated = b.fadd(b.fmul(second, cos), b.fmul(first, sin))
            program.store(rotated, target, b.add(at, half))
        passed = b.add(half, half)
        for at, count in program.columns(b.sub(head_dim, passed)):
            place = b.add(passed, at)
            program.store(program.load(source, F32, place, count), target, place)
    b.ret_void()
