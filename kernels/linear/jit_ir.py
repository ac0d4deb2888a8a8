"""JIT of matmuls of small M in float32 with int8 and int4 weights, and of dequantising int4 weights
before a matmul of large M.

A vector of codes is read, made float32 in registers and multiplied: weights are read once,
as they are stored, one after the other. Each output has an accumulator of LANES lanes (int8: two);
with int4 a group's products of codes are scaled and added to it, and so are the offsets times the
sums of the rows' groups. Codes are taken from the middle of their range, or else the two sums would
be large and nearly cancel each other:

    out = sum_g scale_g sum_j (code_j - 8) x_j  +  sum_g (offset_g + 8 scale_g) sum_j x_j

The order of every sum is fixed by what is written here, not by an optimiser, and the same in all
tiles: it does not depend on M or on how many outputs or threads there are, so neither do the bits.

With int4 OUTS outputs are computed together, so that x is loaded once for all, and the codes of the
next ones asked for meanwhile: processors foresee one run of addresses, not several beside each
other. int8 weights, of which there are twice as many bytes, are read output by output.
"""

from collections.abc import Sequence
from ctypes import Structure, c_int64, c_void_p
from functools import cache

from llvmlite import ir

from kernels.jit import builder
from kernels.jit.builder import (
    F16,
    F32,
    I8,
    I16,
    I32,
    I64,
    INTEGERS,
    LANES,
    VECTOR,
    FunctionBuilder,
)

OUTS = 4  # that are computed together
_MIDDLE = 8.0  # of int4 codes
_INT8_ACCUMULATORS = 2  # or else each addition waits for the one before


class GemmArgs(Structure):
    """One GEMM. Threads take `chunk` outputs at a time from `next` on, until none are left.

    `chunk` is a multiple of OUTS.
    """

    _fields_ = (
        ("x", c_void_p),  # [rows, width] float32
        ("codes", c_void_p),  # [outs, width] int8, or [outs, width / 2] uint8
        ("scales", c_void_p),  # [outs] float32, or [outs, groups] float16
        ("offsets", c_void_p),  # [outs, groups] float16
        ("out", c_void_p),  # [rows, out_width] float32, of which `outs` columns
        ("rows", c_int64),
        ("outs", c_int64),
        ("width", c_int64),
        ("out_width", c_int64),
        ("chunk", c_int64),
        ("next", c_int64),
    )


@cache
def compiled(group: int) -> int:
    """The address of the function that does its part of a `GemmArgs`; `group` is 0 for int8."""
    return builder.compiled(lambda function, has_many: write(function, group, has_many))


@cache
def compiled_narrow(dtype: str) -> int:
    """As `compiled`, with codes that are plain weights: float16 or bfloat16."""
    return builder.compiled(lambda function, has_many: write_narrow(function, dtype, has_many))


class DequantArgs(Structure):
    """Of int4 weights to float32, shared as a `GemmArgs` is."""

    _fields_ = (
        ("codes", c_void_p),
        ("scales", c_void_p),
        ("offsets", c_void_p),
        ("out", c_void_p),  # [outs, groups, group] float32
        ("outs", c_int64),
        ("groups", c_int64),
        ("chunk", c_int64),
        ("next", c_int64),
    )


@cache
def compiled_dequant(group: int) -> int:
    """The address of the function that does its part of a `DequantArgs`."""
    return builder.compiled(lambda function, _: write_dequant(function, group))


def write_dequant(function: ir.Function, group: int) -> None:
    program = FunctionBuilder(function, 4, 4)
    b, half = program.b, group // 2
    codes, scales, offsets, plain, num_out, num_groups, chunk, _ = program.fields
    with program.work_stealing_loop(program.places[-1], chunk, num_out) as (first, end):
        group_end = b.mul(end, num_groups)
        with program.loop(b.mul(first, num_groups), group_end, 1) as at:
            scale, offset = (program.broadcast_half(base, at) for base in (scales, offsets))
            byte, column = b.mul(at, I64(half)), b.mul(at, I64(group))
            for part in range(0, half, LANES):
                both = program.load(codes, I8, b.add(byte, I64(part)), LANES)
                integers = b.zext(both, INTEGERS)
                for bit, start in ((0, part), (4, part + half)):
                    numbers = program.fma(_four_bits(b, integers, bit, 0.0), scale, offset)
                    program.store(numbers, plain, b.add(column, I64(start)))


def write(function: ir.Function, group: int, has_many_registers: bool) -> None:
    if group:
        tiles = ((4, 2), (2, 2), (1, OUTS)) if has_many_registers else ((2, 1), (1, 2))
        _Int4Gemm(function, group).write(tiles)
        return
    _Int8Gemm(function).write(_tall_tiles(has_many_registers))


def write_narrow(function: ir.Function, dtype: str, has_many_registers: bool) -> None:
    _NarrowGemm(function, dtype).write(_tall_tiles(has_many_registers))


def _tall_tiles(has_many_registers: bool) -> list[tuple[int, int]]:
    """At small M threads wait for the memory, which is fastest along one run of addresses."""
    return [(height, 1) for height in ((8, 4, 2, 1) if has_many_registers else (2, 1))]


def _four_bits(b: ir.IRBuilder, integers: ir.Value, bit: int, less: float) -> ir.Value:
    """float32 of the four bits from `bit` on, minus `less`.

    They are put where ones are in the mantissa of a power of two, which is then subtracted: fewer
    instructions than a shift and a conversion.
    """
    exponent = 23 - bit
    bits = b.and_(integers, INTEGERS([15 << bit] * LANES))
    bits = b.or_(bits, INTEGERS([(127 + exponent) << 23] * LANES))
    return b.fsub(b.bitcast(bits, VECTOR), VECTOR([2.0**exponent + less] * LANES))


class _Gemm(FunctionBuilder):
    def __init__(self, function: ir.Function) -> None:
        super().__init__(function, 5, 6)
        self.x, self.codes, self.scales, self.offsets, self.out = self.fields[:5]
        self.rows, self.outs, self.width, self.out_width, self.chunk, _ = self.fields[5:]

    def prepare(self, outs: Sequence[ir.Value]) -> None:
        """What all rows need of `outs`, before any tile of them."""

    def tile(
        self, outs: Sequence[ir.Value], rows: Sequence[ir.Value], start: int
    ) -> list[list[ir.Value]]:
        """The dot product of each of `outs` with each of `rows`; the first is number `start` of
        those that were prepared."""
        raise NotImplementedError

    def write(self, tiles: Sequence[tuple[int, int]]) -> None:
        """In tiles of so many rows by so many outputs, the first while enough rows are left."""
        b = self.b
        with self.work_stealing_loop(self.places[-1], self.chunk, self.outs) as (first, end):
            fours_end = self.aligned_end(first, end, OUTS)
            with self.loop(first, fours_end, OUTS) as out:
                outs, row = [b.add(out, I64(n)) for n in range(OUTS)], I64(0)
                self.prepare(outs)
                for count, num_outs in tiles:
                    stop = self.aligned_end(row, self.rows, count)
                    with self.loop(row, stop, count) as at:
                        rows = [b.add(at, I64(n)) for n in range(count)]
                        for start in range(0, OUTS, num_outs):
                            self.stored_tile(outs[start : start + num_outs], rows, start)
                    row = stop
            with self.loop(fours_end, end, 1) as out:
                self.prepare([out])
                with self.loop(I64(0), self.rows, 1) as at:
                    self.stored_tile([out], [at], 0)

    def stored_tile(self, outs: Sequence[ir.Value], rows: Sequence[ir.Value], start: int) -> None:
        for out, of_out in zip(outs, self.tile(outs, rows, start), strict=True):
            for row, total in zip(rows, of_out, strict=True):
                self.store(total, self.out, self.b.add(self.b.mul(row, self.out_width), out))

    def accumulators(
        self, outs: Sequence[ir.Value], rows: Sequence[ir.Value]
    ) -> list[list[ir.Value]]:
        return [[self.local(VECTOR(None)) for _ in rows] for _ in outs]

    def row_of(self, base: ir.Value, kind: ir.Type, row: ir.Value, width: ir.Value) -> ir.Value:
        return self.at(base, kind, self.b.mul(row, width))


class _Int8Gemm(_Gemm):
    element = I8

    def numbers(self, codes: ir.Value, column: ir.Value, count: int = 0) -> ir.Value:
        """`count` codes, or one, as float32."""
        integer = self.load(codes, I8, column, count)
        return self.b.sitofp(integer, VECTOR if count else F32)

    def scaled(self, total: ir.Value, out: ir.Value) -> ir.Value:
        """A finished sum."""
        return self.b.fmul(self.load(self.scales, F32, out), total)

    def tile(
        self,
        outs: Sequence[ir.Value],
        rows: Sequence[ir.Value],
        start: int,  # noqa: ARG002 (nothing was prepared)
    ) -> list[list[ir.Value]]:
        b = self.b
        codes = [self.row_of(self.codes, self.element, out, self.width) for out in outs]
        ahead = b.mul(self.width, I64(OUTS))
        xs = [self.row_of(self.x, F32, row, self.width) for row in rows]
        banks = [self.accumulators(outs, rows) for _ in range(_INT8_ACCUMULATORS)]
        begun: ir.Value = I64(0)
        for num_banks in (_INT8_ACCUMULATORS, 1):
            stop = self.aligned_end(begun, self.width, num_banks * LANES)
            with self.loop(begun, stop, num_banks * LANES) as first:
                for bank in range(num_banks):
                    column = b.add(first, I64(bank * LANES))
                    columns = [self.load(x, F32, column, LANES) for x in xs]
                    for code, of_out in zip(codes, banks[bank], strict=True):
                        if bank == 0:
                            self.prefetch(code, self.element, b.add(column, ahead))
                        numbers = self.numbers(code, column, LANES)
                        for x, accumulator in zip(columns, of_out, strict=True):
                            self.fma_into(accumulator, numbers, x)
            begun = stop
        totals: list[list[ir.Value]] = []
        for number in range(len(outs)):
            totals.append([])
            for row in range(len(rows)):
                sums = [b.load(bank[number][row], typ=VECTOR) for bank in banks]
                while len(sums) > 1:
                    sums.append(b.fadd(sums.pop(), sums.pop()))
                totals[-1].append(self.local(self.lane_sum(sums[0])))
        with self.loop(begun, self.width, 1) as column:
            for code, of_out in zip(codes, totals, strict=True):
                value = self.numbers(code, column)
                for x, total in zip(xs, of_out, strict=True):
                    self.fma_into(total, value, self.load(x, F32, column))
        return [
            [self.scaled(b.load(total, typ=F32), out) for total in of_out]
            for out, of_out in zip(outs, totals, strict=True)
        ]


class _NarrowGemm(_Int8Gemm):
    """With plain weights of two bytes each."""

    def __init__(self, function: ir.Function, dtype: str) -> None:
        super().__init__(function)
        self.element = F16 if dtype == "float16" else I16

    def numbers(self, codes: ir.Value, column: ir.Value, count: int = 0) -> ir.Value:
        b, narrow = self.b, self.load(codes, self.element, column, count)
        if self.element == F16:
            return b.fpext(narrow, VECTOR if count else F32)
        integer = INTEGERS if count else I32  # bfloat16: the upper half of a float32
        half = integer([16] * count) if count else I32(16)
        return b.bitcast(b.shl(b.zext(narrow, integer), half), VECTOR if count else F32)

    def scaled(self, total: ir.Value, out: ir.Value) -> ir.Value:  # noqa: ARG002 (has no scale)
        return total


class _Int4Gemm(_Gemm):
    def __init__(self, function: ir.Function, group: int) -> None:
        super().__init__(function)
        self.group, b = group, self.b
        self.groups = b.udiv(self.width, I64(group))
        num_sums = b.mul(self.rows, self.groups)
        self.sums = b.alloca(F32, num_sums)  # [rows, groups]
        # Of the outputs in work: an output's scales, and after them the weights that code 8 is.
        self.numbers = self.array(b.mul(self.groups, I64(2 * OUTS)))
        with self.loop(I64(0), num_sums, 1) as at:
            first = b.mul(at, I64(group))
            total = self.load(self.x, F32, first, LANES)
            for part in range(LANES, group, LANES):
                total = b.fadd(total, self.load(self.x, F32, b.add(first, I64(part)), LANES))
            self.store(self.lane_sum(total), self.sums, at)

    def prepare(self, outs: Sequence[ir.Value]) -> None:
        b = self.b
        for number, out in enumerate(outs):
            scales, offsets = (
                self.row_of(base, F16, out, self.groups) for base in (self.scales, self.offsets)
            )
            places = self.prepared(number)
            whole = self.aligned_end(I64(0), self.groups, LANES)
            for first, stop, count in ((I64(0), whole, LANES), (whole, self.groups, 0)):
                kind = VECTOR if count else F32
                eight = VECTOR([_MIDDLE] * LANES) if count else F32(_MIDDLE)
                with self.loop(first, stop, count or 1) as group:
                    scale, offset = (
                        b.fpext(self.load(base, F16, group, count), kind)
                        for base in (scales, offsets)
                    )
                    self.store(scale, places[0], group)
                    self.store(self.fma(scale, eight, offset), places[1], group)

    def prepared(self, number: int) -> tuple[ir.Value, ir.Value]:
        """Where the scales, and the weights that code 8 is, of an output in work are."""
        first, second = (self.b.mul(self.groups, I64(2 * number + more)) for more in (0, 1))
        return self.at(self.numbers, F32, first), self.at(self.numbers, F32, second)

    def tile(
        self, outs: Sequence[ir.Value], rows: Sequence[ir.Value], start: int
    ) -> list[list[ir.Value]]:
        b = self.b
        width_bytes = b.udiv(self.width, I64(2))
        codes = [self.row_of(self.codes, I8, out, width_bytes) for out in outs]
        places = [self.prepared(start + number) for number in range(len(outs))]
        scales, middles = ([place[at] for place in places] for at in (0, 1))
        xs = [self.row_of(self.x, F32, row, self.width) for row in rows]
        sums = [self.row_of(self.sums, F32, row, self.groups) for row in rows]
        accumulators = self.accumulators(outs, rows)
        ahead = b.mul(width_bytes, I64(OUTS))
        with self.loop(I64(0), self.groups, 1) as group:
            for code, scale, of_out in zip(codes, scales, accumulators, strict=True):
                self.prefetch(code, I8, b.add(b.mul(group, I64(self.group // 2)), ahead))
                spread = self.broadcast(self.load(scale, F32, group))
                products = self.group_products(group, code, xs)
                for accumulator, product in zip(of_out, products, strict=True):
                    self.fma_into(accumulator, spread, product)
        whole = self.aligned_end(I64(0), self.groups, LANES)
        with self.loop(I64(0), whole, LANES) as group:
            for middle, of_out in zip(middles, accumulators, strict=True):
                numbers = self.load(middle, F32, group, LANES)
                for accumulator, of_row in zip(of_out, sums, strict=True):
                    self.fma_into(accumulator, numbers, self.load(of_row, F32, group, LANES))
        totals = [
            [self.local(self.lane_sum(b.load(one, typ=VECTOR))) for one in of_out]
            for of_out in accumulators
        ]
        with self.loop(whole, self.groups, 1) as group:
            for middle, of_out in zip(middles, totals, strict=True):
                number = self.load(middle, F32, group)
                for total, of_row in zip(of_out, sums, strict=True):
                    self.fma_into(total, number, self.load(of_row, F32, group))
        return [[b.load(total, typ=F32) for total in of_out] for of_out in totals]

    def group_products(
        self, group: ir.Value, codes: ir.Value, xs: Sequence[ir.Value]
    ) -> list[ir.Value]:
        """The sums, in lanes, of one group's codes times each of `xs`."""
        b, half = self.b, self.group // 2
        byte, column = b.mul(group, I64(half)), b.mul(group, I64(self.group))
        products: list[ir.Value] = [None for _ in xs]
        for part in range(0, half, LANES):
            both = b.zext(self.load(codes, I8, b.add(byte, I64(part)), LANES), INTEGERS)
            for bit, first in ((0, part), (4, part + half)):
                numbers = _four_bits(b, both, bit, _MIDDLE)
                for number, x in enumerate(xs):
                    columns = self.load(x, F32, b.add(column, I64(first)), LANES)
                    so_far = products[number]
                    products[number] = (
                        b.fmul(numbers, columns)
                        if so_far is None
                        else self.fma(numbers, columns, so_far)
                    )
        return products
