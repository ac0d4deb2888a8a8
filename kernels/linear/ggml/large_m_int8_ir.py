"""JIT of matmuls of large M with GGML's blocks and x as int8: large_m_ir.py with products of bytes.

Four columns of all of a panel's outputs lie side by side. Sums of pairs of products stay int16 as
long as the kind's largest codes let them, so that most instructions multiply or add 32 of them.
"""

from collections.abc import Sequence
from functools import cache

from llvmlite import ir

from kernels.ggml.block_type import BlockType
from kernels.jit import builder
from kernels.jit.builder import I8, I32, I64, LANES
from kernels.linear.ggml import bytes_ir, large_m_ir
from kernels.linear.ggml.large_m_ir import EIGHT, HALF, transposed
from kernels.linear.ggml.unpack_ir import PART

_STEP = 4  # columns that are multiplied at a time
_HEIGHT, _TALL = 5, 10


@cache
def compiled(kind: BlockType) -> int:
    """For kinds whose codes are not signed."""
    has_vnni = bytes_ir.has_one_instruction()
    return builder.compiled(
        lambda function, has_many: write(function, kind, has_many, has_vnni), unrolls=False
    )


def write(function: ir.Function, kind: BlockType, has_many_registers: bool, has_vnni: bool) -> None:
    _ByteGemm(function, kind, has_vnni).write(_TALL if has_many_registers else _HEIGHT)


class _ByteGemm(large_m_ir.Gemm):
    x_type = I8

    def __init__(self, function: ir.Function, kind: BlockType, has_vnni: bool) -> None:
        super().__init__(function, kind, bytes_ir.format_of(kind))
        self.byte_format, self.has_vnni = bytes_ir.BYTE_FORMATS[kind], has_vnni

    def unpack_codes(
        self,
        rows: Sequence[ir.Value],
        run: ir.Value,
        number: int,
        part: ir.Value,
        codes: ir.Value,
        lane: ir.Value,
    ) -> None:
        b, first = self.b, self.b.mul(part, I64(PART // _STEP))
        found = [self.blocks.codes(row, run, number, self.byte_format.codes) for row in rows]
        for at, vector in enumerate(transposed(b, [b.bitcast(one, EIGHT) for one in found])):
            of_step = b.mul(b.add(first, I64(at)), I64(LANES))
            b.store(vector, self.at(codes, I32, b.add(of_step, lane)), align=1)

    def sums(
        self, codes: ir.Value, xs: Sequence[ir.Value], part: ir.Value, group: int
    ) -> list[ir.Value]:
        b, num_steps = self.b, self.format.group // _STEP
        first = b.add(b.mul(part, I64(PART // _STEP)), I64(group * num_steps))
        length = num_steps if self.has_vnni else min(num_steps, self.byte_format.pairs_in_int16)
        totals: list[list[ir.Value]] = [[] for _ in xs]
        for start in range(0, num_steps, length):
            some = self.some(codes, xs, b.add(first, I64(start)), min(length, num_steps - start))
            for total, halves in zip(totals, some, strict=True):
                total[:] = list(map(b.add, total, halves)) if total else halves
        order = ir.VectorType(I32, LANES)(list(range(LANES)))
        return [b.shuffle_vector(*total, order) for total in totals]

    def some(
        self, codes: ir.Value, xs: Sequence[ir.Value], first: ir.Value, num_steps: int
    ) -> list[list[ir.Value]]:
        """Of each of `xs` both halves of a panel's outputs, of so many steps."""
        b = self.b
        zero = EIGHT(None) if self.has_vnni else bytes_ir.PAIRS(None)
        sums = [[self.local(zero), self.local(zero)] for _ in xs]
        for place in (place for of_row in sums for place in of_row):
            b.store(zero, place)
        with self.loop(first, b.add(first, I64(num_steps)), 1) as step:
            place = b.mul(step, I64(LANES))
            weights = [
                b.bitcast(self.load(codes, I32, b.add(place, I64(half)), HALF), bytes_ir.BYTES)
                for half in (0, HALF)
            ]
            for of_row, x in zip(sums, xs, strict=True):
                four = b.bitcast(self.broadcast(self.load(x, I32, step), HALF), bytes_ir.BYTES)
                for total, weight in zip(of_row, weights, strict=True):
                    b.store(self.added(b.load(total, typ=zero.type), weight, four), total)
        found = [[b.load(total, typ=zero.type) for total in of_row] for of_row in sums]
        if self.has_vnni:
            return found
        return [[bytes_ir.widened(self, one) for one in of_row] for of_row in found]

    def added(self, total: ir.Value, codes: ir.Value, x: ir.Value) -> ir.Value:
        if self.has_vnni:
            return bytes_ir.with_quadruples(self, total, codes, x)
        return self.b.add(total, bytes_ir.pairs(self, codes, x))
