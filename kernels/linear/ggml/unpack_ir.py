"""What each kind of GGML's blocks holds, as LLVM IR: codes as int16, scales and offsets as float32.

Codes come 32 at a time as two vectors, of even and of odd columns: two bytes side by side are one
int16, so a mask and a shift take them apart, where bringing them in order would move every byte.
What they are multiplied with is in the same order (pack_ir.py).

Layouts: ggml/src/ggml-common.h of the GGML library; kernels/ggml/dequantize.py says them in torch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llvmlite import ir

from kernels.ggml.block_type import BlockType
from kernels.ggml.dequantize import IQ4_VALUES, MXFP4_VALUES
from kernels.jit.builder import F16, F32, I8, I16, I32, I64, FunctionBuilder

PART = 32  # columns unpacked at a time
WORDS = ir.VectorType(I16, PART // 2)
_BYTES = ir.VectorType(I8, PART)

Codes = tuple[ir.Value, ir.Value]  # WORDS of the even and of the odd columns
Scales = tuple[ir.Value, ir.Value | None]  # float32 of a block's groups, and offsets


@dataclass(frozen=True)
class Format:
    """Of one kind of block. Which 32 columns of a block are wanted is told to `codes` as the number
    of a run of `unrolled` times as many, known when the code runs, and the place in that run."""

    codes: Callable[[FunctionBuilder, ir.Value, ir.Value, int], Codes]
    scales: Callable[[FunctionBuilder, ir.Value], Scales]
    unrolled: int = 1
    group: int = 32  # columns that share a scale
    has_offsets: bool = False
    bias: int = 0  # that codes are too large by; no kind with offsets has one


def load(p: FunctionBuilder, block: ir.Value, start: int, count: int = PART) -> ir.Value:
    return p.load(block, I8, I64(start), count)


def load_of_run(
    p: FunctionBuilder, block: ir.Value, start: int, run: ir.Value, size: int, count: int = PART
) -> ir.Value:
    """`count` bytes of a run's `size`, of which the first run's begin at `start`."""
    return p.load(block, I8, p.b.add(I64(start), p.b.mul(run, I64(size))), count)


def _half(p: FunctionBuilder, block: ir.Value, start: int) -> ir.Value:
    """A float16 as a scalar float32."""
    return p.b.extract_element(_spread_half(p, block, start, 8), I32(0))


def _spread_half(p: FunctionBuilder, block: ir.Value, start: int, count: int) -> ir.Value:
    """A float16 as float32 in each of `count` lanes. Spread before it is widened, as what is put
    into one lane of a register waits on x86 for whatever the register was used for before."""
    b = p.b
    bits = b.load(p.at(block, I8, I64(start)), typ=I16, align=1)
    halves = b.bitcast(p.broadcast(bits, count), ir.VectorType(F16, count))
    return b.fpext(halves, ir.VectorType(F32, count))


def _words(p: FunctionBuilder, value: ir.Value) -> ir.Value:
    return p.b.bitcast(value, WORDS)


def _signed(p: FunctionBuilder, codes: ir.Value) -> Codes:
    b, words, eight = p.b, _words(p, codes), WORDS([8] * WORDS.count)
    return b.ashr(b.shl(words, eight), eight), b.ashr(words, eight)


def _unsigned(p: FunctionBuilder, codes: ir.Value) -> Codes:
    b, words = p.b, _words(p, codes)
    return b.and_(words, WORDS([255] * WORDS.count)), b.lshr(words, WORDS([8] * WORDS.count))


def _bits(p: FunctionBuilder, codes: ir.Value, start: int, count: int, to: int = 0) -> Codes:
    """`count` bits of each byte from bit `start` on, moved to bit `to`."""
    b, words = p.b, _words(p, codes)
    mask = WORDS([((1 << count) - 1) << to] * WORDS.count)

    def moved(right: int) -> ir.Value:
        by = WORDS([abs(right)] * WORDS.count)
        return b.and_(b.lshr(words, by) if right >= 0 else b.shl(words, by), mask)

    return moved(start - to), moved(start - to + 8)


def _bits_of_run(
    p: FunctionBuilder, codes: ir.Value, run: ir.Value, size: int, at: int, to: int
) -> Codes:
    """One bit of each byte, number `at` of a run's `size` bits, moved to bit `to`."""
    by = p.b.trunc(p.b.mul(run, I64(size)), I16)
    return _bits(p, p.b.lshr(_words(p, codes), p.broadcast(by, WORDS.count)), at, 1, to)


def _both(join: Callable[[ir.Value, ir.Value], ir.Value], left: Codes, right: Codes) -> Codes:
    return join(left[0], right[0]), join(left[1], right[1])


def _less(p: FunctionBuilder, codes: Codes, number: int) -> Codes:
    constant = WORDS([number] * WORDS.count)
    return _both(p.b.sub, codes, (constant, constant))


def nibbles(p: FunctionBuilder, packed: ir.Value) -> ir.Value:
    """16 bytes as 32, first their low halves, then the high ones."""
    b, words = p.b, ir.VectorType(I32, PART // 4)
    twice = b.shuffle_vector(
        packed,
        packed.type(ir.Undefined),
        ir.VectorType(I32, PART)([*range(PART // 2)] * 2),
    )
    shifted = b.lshr(b.bitcast(twice, words), words([0] * 4 + [4] * 4))
    return b.bitcast(b.and_(shifted, words([0x0F0F0F0F] * 8)), _BYTES)


def fifth_bits(p: FunctionBuilder, block: ir.Value, start: int, if_set: int) -> ir.Value:
    """Bytes of `if_set` where bit i of 32 is one, of its complement in the upper four bits else."""
    b = p.b
    bits = b.load(p.at(block, I8, I64(start)), typ=I32, align=1)
    everywhere = b.bitcast(p.broadcast(bits, PART // 4), _BYTES)
    order = [at // 8 + at // 16 * 16 for at in range(PART)]  # within 16 bytes, as x86 shuffles
    spread = b.shuffle_vector(everywhere, _BYTES(ir.Undefined), ir.VectorType(I32, PART)(order))
    single = b.and_(spread, _BYTES([1 << at % 8 for at in range(PART)]))
    is_clear = b.sext(b.icmp_unsigned("==", single, _BYTES(None)), _BYTES)
    if if_set:
        return b.and_(b.not_(is_clear), _BYTES([if_set] * PART))
    return b.and_(is_clear, _BYTES([0xF0] * PART))


def _looked_up(p: FunctionBuilder, codes: ir.Value, values: Sequence[int]) -> ir.Value:
    """Of `values` that which each byte says; by halving, as no instruction for it is everywhere."""
    b = p.b
    found: list[ir.Value] = [_BYTES([value & 255] * PART) for value in values]
    for bit in range(len(values).bit_length() - 1):
        ones = b.and_(codes, _BYTES([1 << bit] * PART))
        is_set = b.icmp_unsigned("!=", ones, _BYTES(None))
        pairs = zip(found[::2], found[1::2], strict=True)
        found = [b.select(is_set, high, low) for low, high in pairs]
    return found[0]


def _dword(p: FunctionBuilder, block: ir.Value, start: int) -> ir.Value:
    return p.b.load(p.at(block, I8, I64(start)), typ=I32, align=1)


def _bytes_of(p: FunctionBuilder, dwords: Sequence[ir.Value]) -> ir.Value:
    vector: ir.Value = ir.VectorType(I32, len(dwords))(ir.Undefined)
    for at, dword in enumerate(dwords):
        vector = p.b.insert_element(vector, dword, I32(at))
    return p.b.bitcast(vector, ir.VectorType(I8, 4 * len(dwords)))


def _scaled(
    p: FunctionBuilder, block: ir.Value, start: int, codes: ir.Value, less: int = 0
) -> ir.Value:
    """The float16 at `start` times each of `codes`, signed bytes, less a number."""
    b, count = p.b, codes.type.count
    wide = b.sext(codes, ir.VectorType(I32, count))
    if less:
        wide = b.sub(wide, wide.type([less] * count))
    scale = _spread_half(p, block, start, count)
    return b.fmul(b.sitofp(wide, ir.VectorType(F32, count)), scale)


@dataclass(frozen=True)
class Halves:
    """A block's scale, and its offset if it has one, as float16 so many bytes into it."""

    starts: tuple[int, ...]

    def __call__(self, p: FunctionBuilder, block: ir.Value) -> Scales:
        scale, *offset = (_half(p, block, start) for start in self.starts)
        return scale, offset[0] if offset else None

    def of_blocks(self, p: FunctionBuilder, blocks: Sequence[ir.Value]) -> Scales:
        """The same of each of `blocks`, widened in one instruction."""
        b, count = p.b, len(blocks)
        found = []
        for start in self.starts:
            ones = [b.load(p.at(block, I8, I64(start)), typ=I16, align=1) for block in blocks]
            bits = p.broadcast(ones[0], count)
            for lane, one in enumerate(ones[1:], 1):
                bits = b.insert_element(bits, one, I32(lane))
            halves = b.bitcast(bits, ir.VectorType(F16, count))
            found.append(b.fpext(halves, ir.VectorType(F32, count)))
        return found[0], found[1] if found[1:] else None


def _e8m0(p: FunctionBuilder, block: ir.Value) -> Scales:
    b = p.b
    exponent = b.zext(b.load(block, typ=I8, align=1), I32)
    small = b.shl(I32(0x200000), b.and_(exponent, I32(1)))
    normal = b.shl(b.sub(exponent, I32(1)), I32(23))
    bits = b.select(b.icmp_unsigned("<", exponent, I32(2)), small, normal)
    return b.bitcast(bits, F32), None


def _q4_0(p: FunctionBuilder, block: ir.Value, _run: ir.Value, _at: int) -> Codes:
    return _less(p, _unsigned(p, nibbles(p, load(p, block, 2, 16))), 8)


def _q4_1(p: FunctionBuilder, block: ir.Value, _run: ir.Value, _at: int) -> Codes:
    return _unsigned(p, nibbles(p, load(p, block, 4, 16)))


def _q5_0(p: FunctionBuilder, block: ir.Value, _run: ir.Value, _at: int) -> Codes:
    # A code without its fifth bit is 16 below one with it: ones in the upper bits make it so.
    return _signed(p, p.b.or_(nibbles(p, load(p, block, 6, 16)), fifth_bits(p, block, 2, 0)))


def _q5_1(p: FunctionBuilder, block: ir.Value, _run: ir.Value, _at: int) -> Codes:
    return _unsigned(p, p.b.or_(nibbles(p, load(p, block, 8, 16)), fifth_bits(p, block, 4, 16)))


def _q8_0(p: FunctionBuilder, block: ir.Value, _run: ir.Value, _at: int) -> Codes:
    return _signed(p, load(p, block, 2))


def _q2_k(p: FunctionBuilder, block: ir.Value, run: ir.Value, at: int) -> Codes:
    return _bits(p, load_of_run(p, block, 16, run, 32), 2 * at, 2)


def _q2_k_scales(p: FunctionBuilder, block: ir.Value) -> Scales:
    b, both = p.b, load(p, block, 0, 16)
    low = b.and_(both, both.type([15] * 16))
    high = b.lshr(both, both.type([4] * 16))
    return _scaled(p, block, 80, low), b.fneg(_scaled(p, block, 82, high))


def _q3_k(p: FunctionBuilder, block: ir.Value, run: ir.Value, at: int) -> Codes:
    low = _bits(p, load_of_run(p, block, 32, run, 32), 2 * at, 2)
    high = _bits_of_run(p, load(p, block, 0), run, 4, at, to=2)
    return _less(p, _both(p.b.or_, low, high), 4)


def _q3_k_scales(p: FunctionBuilder, block: ir.Value) -> Scales:
    b = p.b
    lows, high = [_dword(p, block, 96), _dword(p, block, 100)], _dword(p, block, 104)
    dwords = []
    for at in range(4):
        low = b.and_(b.lshr(lows[at % 2], I32(4 * (at // 2))), I32(0x0F0F0F0F))
        upper = b.and_(b.lshr(high, I32(2 * at)), I32(0x03030303))
        dwords.append(b.or_(low, b.shl(upper, I32(4))))
    return _scaled(p, block, 108, _bytes_of(p, dwords), less=32), None


def _six_bits(p: FunctionBuilder, block: ir.Value) -> Scales:
    """Of Q4_K and Q5_K: eight scales and as many offsets.

    Twelve bytes behind the float16s are three dwords: six bits each of four scales, of four
    offsets, and four bits each of the others, whose upper two are in the upper bits of the first.
    """
    b, four = p.b, ir.VectorType(I32, 4)
    dwords = b.load(block, typ=four, align=1)
    twice, rest = (
        b.shuffle_vector(dwords, four(ir.Undefined), four(order))
        for order in ([1, 1, 2, 2], [3, 3, 3, 3])
    )
    twice = b.lshr(twice, four([0, 2, 0, 2]))
    twice = b.and_(twice, four([0x3F3F3F3F, 0x30303030] * 2))
    rest = b.and_(b.lshr(rest, four([0, 0, 0, 4])), four([0, 0x0F0F0F0F] * 2))
    found = b.bitcast(b.or_(twice, rest), ir.VectorType(I8, 16))
    scales, offsets = (
        b.shuffle_vector(
            found, found.type(ir.Undefined), ir.VectorType(I32, 8)(list(range(first, first + 8)))
        )
        for first in (0, 8)
    )
    return _scaled(p, block, 0, scales), b.fneg(_scaled(p, block, 2, offsets))


def _q4_k(p: FunctionBuilder, block: ir.Value, run: ir.Value, at: int) -> Codes:
    return _bits(p, load_of_run(p, block, 16, run, 32), 4 * at, 4)


def _q5_k(p: FunctionBuilder, block: ir.Value, run: ir.Value, at: int) -> Codes:
    low = _bits(p, load_of_run(p, block, 48, run, 32), 4 * at, 4)
    return _both(p.b.or_, low, _bits_of_run(p, load(p, block, 16), run, 2, at, to=4))


def _q6_k(p: FunctionBuilder, block: ir.Value, run: ir.Value, at: int) -> Codes:
    low = _bits(p, load_of_run(p, block, 32 * (at % 2), run, 64), 4 * (at // 2), 4)
    high = _bits(p, load_of_run(p, block, 128, run, 32), 2 * at, 2, to=4)
    return _less(p, _both(p.b.or_, low, high), 32)


def _q6_k_scales(p: FunctionBuilder, block: ir.Value) -> Scales:
    return _scaled(p, block, 208, load(p, block, 192, 16)), None


def _iq4_nl(p: FunctionBuilder, block: ir.Value, _run: ir.Value, _at: int) -> Codes:
    return _signed(p, _looked_up(p, nibbles(p, load(p, block, 2, 16)), IQ4_VALUES))


def _iq4_xs(p: FunctionBuilder, block: ir.Value, run: ir.Value, _at: int) -> Codes:
    return _signed(p, _looked_up(p, nibbles(p, load_of_run(p, block, 8, run, 16, 16)), IQ4_VALUES))


def _iq4_xs_scales(p: FunctionBuilder, block: ir.Value) -> Scales:
    b, eight = p.b, ir.VectorType(I32, 8)
    high = b.zext(b.load(p.at(block, I8, I64(2)), typ=I16, align=1), I32)
    lows = b.lshr(p.broadcast(_dword(p, block, 4), 8), eight([4 * at for at in range(8)]))
    highs = b.lshr(p.broadcast(high, 8), eight([2 * at for at in range(8)]))
    upper = b.shl(b.and_(highs, eight([3] * 8)), eight([4] * 8))
    codes = b.sub(b.or_(b.and_(lows, eight([15] * 8)), upper), eight([32] * 8))
    scale = _spread_half(p, block, 0, 8)
    return b.fmul(b.sitofp(codes, ir.VectorType(F32, 8)), scale), None


def _mxfp4(p: FunctionBuilder, block: ir.Value, _run: ir.Value, _at: int) -> Codes:
    return _signed(p, _looked_up(p, nibbles(p, load(p, block, 1, 16)), MXFP4_VALUES))


FORMATS: dict[BlockType, Format] = {
    BlockType.Q4_0: Format(_q4_0, Halves((0,))),
    BlockType.Q4_1: Format(_q4_1, Halves((0, 2)), has_offsets=True),
    BlockType.Q5_0: Format(_q5_0, Halves((0,))),
    BlockType.Q5_1: Format(_q5_1, Halves((0, 2)), has_offsets=True),
    BlockType.Q8_0: Format(_q8_0, Halves((0,))),
    BlockType.Q2_K: Format(_q2_k, _q2_k_scales, 4, group=16, has_offsets=True),
    BlockType.Q3_K: Format(_q3_k, _q3_k_scales, 4, group=16),
    BlockType.Q4_K: Format(_q4_k, _six_bits, 2, has_offsets=True),
    BlockType.Q5_K: Format(_q5_k, _six_bits, 2, has_offsets=True),
    BlockType.Q6_K: Format(_q6_k, _q6_k_scales, 4, group=16),
    BlockType.IQ4_NL: Format(_iq4_nl, Halves((0,))),
    BlockType.IQ4_XS: Format(_iq4_xs, _iq4_xs_scales),
    BlockType.MXFP4: Format(_mxfp4, _e8m0),
}
