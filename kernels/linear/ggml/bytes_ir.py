"""GGML's blocks as bytes, to be multiplied with bytes: codes in order, 32 at a time.

x86 multiplies unsigned bytes with signed ones and adds pairs of products to an int16 that must hold
them. Codes with a zero of their own are therefore taken as they are stored, from 0 on, and what
they are too large by is an offset of their group. Codes that are signed give their sign to x.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from llvmlite import ir

from kernels.ggml.block_type import BlockType
from kernels.ggml.dequantize import IQ4_VALUES, MXFP4_VALUES
from kernels.jit.builder import I8, I16, I32, I64, FunctionBuilder, host_has
from kernels.linear.ggml import unpack_ir
from kernels.linear.ggml.unpack_ir import FORMATS, PART, Format

BYTES = ir.VectorType(I8, PART)
SUMS = ir.VectorType(I32, PART // 4)  # of four products each
PAIRS = ir.VectorType(I16, PART // 2)
_LARGEST_INT16, _LARGEST_X = 2**15 - 1, 127


@dataclass(frozen=True)
class ByteFormat:
    """Of one kind of block; `codes` is called as that of `Format`. Codes are 0 to `largest`, each
    `bias` more than it stands for, or signed if `largest` is 0."""

    codes: Callable[[FunctionBuilder, ir.Value, ir.Value, int], ir.Value]
    largest: int
    bias: int = 0

    @property
    def pairs_in_int16(self) -> int:
        """So many sums of two products can be added before they are widened."""
        return _LARGEST_INT16 // (2 * self.largest * _LARGEST_X)


@cache
def format_of(kind: BlockType) -> Format:
    """`Format` for the codes that `ByteFormat` has."""
    return replace(FORMATS[kind], bias=BYTE_FORMATS[kind].bias)


def has_one_instruction() -> bool:
    """Whether the processor adds four products of bytes at once (VNNI)."""
    return host_has("avxvnni") or (host_has("avx512vnni") and host_has("avx512vl"))


def quadruples(
    p: FunctionBuilder, codes: ir.Value, x: ir.Value, *, has_vnni: bool, is_signed: bool = False
) -> ir.Value:
    """SUMS of products of BYTES; `codes` at most 128 in magnitude if signed, else 127."""
    if is_signed:
        x = _call(p, "avx2.psign.b", BYTES, [x, codes])
        codes = _magnitudes(p, codes)
    if has_vnni:
        return with_quadruples(p, SUMS(None), codes, x)
    return widened(p, pairs(p, codes, x))


def with_quadruples(p: FunctionBuilder, total: ir.Value, codes: ir.Value, x: ir.Value) -> ir.Value:
    """`total` and what `quadruples` gives, by VNNI."""
    operands = [p.b.bitcast(value, SUMS) for value in (codes, x)]
    return _call(p, "avx512.vpdpbusd.256", SUMS, [total, *operands])


def pairs(p: FunctionBuilder, codes: ir.Value, x: ir.Value) -> ir.Value:
    """Sums of two products each, int16."""
    return _call(p, "avx2.pmadd.ub.sw", PAIRS, [codes, x])


def widened(p: FunctionBuilder, sums: ir.Value) -> ir.Value:
    """Two of `pairs` each added, as int32."""
    return _call(p, "avx2.pmadd.wd", SUMS, [sums, PAIRS([1] * PAIRS.count)])


def _call(
    p: FunctionBuilder, name: str, result: ir.Type, arguments: Sequence[ir.Value]
) -> ir.Value:
    kinds = [argument.type for argument in arguments]
    return p.b.call(p.function(f"llvm.x86.{name}", result, kinds), arguments)


def _magnitudes(p: FunctionBuilder, codes: ir.Value) -> ir.Value:
    is_negative = p.b.icmp_signed("<", codes, BYTES(None))
    return p.b.select(is_negative, p.b.neg(codes), codes)


def _shifted(p: FunctionBuilder, codes: ir.Value, by: int | ir.Value, mask: int) -> ir.Value:
    """Each byte's bits from `by` on (to the left if it is negative), of which `mask` stay."""
    b, words = p.b, p.b.bitcast(codes, PAIRS)
    if isinstance(by, int):
        amount = PAIRS([abs(by)] * PAIRS.count)
        words = b.lshr(words, amount) if by >= 0 else b.shl(words, amount)
    else:
        words = b.lshr(words, p.broadcast(b.trunc(by, I16), PAIRS.count))
    return b.and_(b.bitcast(words, BYTES), BYTES([mask] * PART))


def _nibbles(start: int) -> Callable[[FunctionBuilder, ir.Value], ir.Value]:
    return lambda p, block: unpack_ir.nibbles(p, unpack_ir.load(p, block, start, PART // 2))


def _q4(start: int) -> Callable[..., ir.Value]:
    return lambda p, block, _run, _at: _nibbles(start)(p, block)


def _q5(start: int) -> Callable[..., ir.Value]:
    def codes(p: FunctionBuilder, block: ir.Value, _run: ir.Value, _at: int) -> ir.Value:
        high = unpack_ir.fifth_bits(p, block, start, 16)
        return p.b.or_(_nibbles(start + 4)(p, block), high)

    return codes


def _q8_0(p: FunctionBuilder, block: ir.Value, _run: ir.Value, _at: int) -> ir.Value:
    return unpack_ir.load(p, block, 2)


def _q2_k(p: FunctionBuilder, block: ir.Value, run: ir.Value, at: int) -> ir.Value:
    return _shifted(p, unpack_ir.load_of_run(p, block, 16, run, 32), 2 * at, 3)


def _q3_k(p: FunctionBuilder, block: ir.Value, run: ir.Value, at: int) -> ir.Value:
    low = _shifted(p, unpack_ir.load_of_run(p, block, 32, run, 32), 2 * at, 3)
    one = _bit_of_run(p, unpack_ir.load(p, block, 0), run, 4, at)
    return p.b.or_(low, _shifted(p, one, -2, 4))


def _q4_k(p: FunctionBuilder, block: ir.Value, run: ir.Value, at: int) -> ir.Value:
    return _shifted(p, unpack_ir.load_of_run(p, block, 16, run, 32), 4 * at, 15)


def _q5_k(p: FunctionBuilder, block: ir.Value, run: ir.Value, at: int) -> ir.Value:
    low = _shifted(p, unpack_ir.load_of_run(p, block, 48, run, 32), 4 * at, 15)
    one = _bit_of_run(p, unpack_ir.load(p, block, 16), run, 2, at)
    return p.b.or_(low, _shifted(p, one, -4, 16))


def _q6_k(p: FunctionBuilder, block: ir.Value, run: ir.Value, at: int) -> ir.Value:
    low = _shifted(p, unpack_ir.load_of_run(p, block, 32 * (at % 2), run, 64), 4 * (at // 2), 15)
    high = _shifted(p, unpack_ir.load_of_run(p, block, 128, run, 32), 2 * at - 4, 48)
    return p.b.or_(low, high)


def _bit_of_run(p: FunctionBuilder, codes: ir.Value, run: ir.Value, size: int, at: int) -> ir.Value:
    """Bit `at` of a run's `size` of each byte, as its lowest."""
    by = p.b.add(p.b.mul(run, I64(size)), I64(at))
    return _shifted(p, codes, by, 1)


def _looked_up(
    start: int, run_bytes: int, values: Sequence[int]
) -> Callable[[FunctionBuilder, ir.Value, ir.Value, int], ir.Value]:
    """Of `values`, of which a processor with AVX2 finds 16 at once."""
    table = BYTES([value & 255 for value in values] * 2)

    def codes(p: FunctionBuilder, block: ir.Value, run: ir.Value, _at: int) -> ir.Value:
        packed = unpack_ir.load_of_run(p, block, start, run, run_bytes, PART // 2)
        return _call(p, "avx2.pshuf.b", BYTES, [table, unpack_ir.nibbles(p, packed)])

    return codes


BYTE_FORMATS: dict[BlockType, ByteFormat] = {
    BlockType.Q4_0: ByteFormat(_q4(2), 15, bias=8),
    BlockType.Q4_1: ByteFormat(_q4(4), 15),
    BlockType.Q5_0: ByteFormat(_q5(2), 31, bias=16),
    BlockType.Q5_1: ByteFormat(_q5(4), 31),
    BlockType.Q8_0: ByteFormat(_q8_0, 0),
    BlockType.Q2_K: ByteFormat(_q2_k, 3),
    BlockType.Q3_K: ByteFormat(_q3_k, 7, bias=4),
    BlockType.Q4_K: ByteFormat(_q4_k, 15),
    BlockType.Q5_K: ByteFormat(_q5_k, 31),
    BlockType.Q6_K: ByteFormat(_q6_k, 63, bias=32),
    BlockType.IQ4_NL: ByteFormat(_looked_up(2, 0, IQ4_VALUES), 0),
    BlockType.IQ4_XS: ByteFormat(_looked_up(8, 16, IQ4_VALUES), 0),
    BlockType.MXFP4: ByteFormat(_looked_up(1, 0, MXFP4_VALUES), 0),
}
