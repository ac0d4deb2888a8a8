"""JIT of matmuls of small M with GGML's blocks, read where they lie, at any address.

Codes are unpacked to int16 in registers and multiplied with x as int16 (pack_ir.py), pairs of
products added to int32: half the multiplications of float32, and no conversions. Sums of 32
columns are exact; they are scaled and added in float32, in lanes, in an order that is fixed by what
is written here and the same in all tiles: bits do not depend on M, outputs beside, or threads.

    out = sum_g (scale_g scale_x) sum_j code_j x_j  +  sum_g offset_g sum_j x_j
"""

from collections.abc import Callable, Iterable, Sequence
from ctypes import Structure, c_int64, c_void_p
from functools import cache
from typing import Generic, TypeVar

from llvmlite import ir

from kernels.ggml.block_type import BlockType
from kernels.jit import builder
from kernels.jit.builder import F32, I8, I16, I32, I64, FunctionBuilder
from kernels.linear.ggml.unpack_ir import FORMATS, PART, Codes, Format, Halves, Scales

T = TypeVar("T")

OUTS = 4  # that are computed together
_EIGHT = ir.VectorType(F32, 8)
_PARTS = 8  # whose scales are multiplied with those of x at a time: a vector of them
_LINE_BYTES = 64  # of a cache
_HALVES = 8  # scales widened at a time
_SUMS = 8  # groups whose offsets are added at a time


class GemmArgs(Structure):
    """One GEMM. Threads take `chunk` outputs at a time from `next` on, until none are left."""

    _fields_ = (
        ("x", c_void_p),  # of a PackArgs: packed
        ("x_scales", c_void_p),
        ("x_sums", c_void_p),  # or half sums, for groups of 16
        ("blocks", c_void_p),  # [outs, row bytes]
        ("out", c_void_p),  # [rows, out_stride] float32
        ("rows", c_int64),
        ("outs", c_int64),
        ("width", c_int64),
        ("out_stride", c_int64),
        ("chunk", c_int64),  # a multiple of OUTS
        ("next", c_int64),
    )


@cache
def compiled(kind: BlockType) -> int:
    return builder.compiled(lambda function, has_many: write(function, kind, has_many))


def write(function: ir.Function, kind: BlockType, has_many_registers: bool) -> None:
    _WordGemm(function, kind, FORMATS[kind]).write(tiles_of(has_many_registers))


def tiles_of(has_many_registers: bool) -> tuple[tuple[int, int], ...]:
    """Rows and outputs that are computed together, the first while enough rows are left."""
    return ((4, 4), (1, OUTS)) if has_many_registers else ((4, 1), (2, 2), (1, OUTS))


def dot(b: ir.IRBuilder, left: ir.Value, right: ir.Value) -> ir.Value:
    """Products of int16 of two lanes side by side, added: one instruction on x86."""
    count = left.type.count
    wide, half = ir.VectorType(I32, count), ir.VectorType(I32, count // 2)
    products = b.mul(b.sext(left, wide), b.sext(right, wide))
    even, odd = (
        b.shuffle_vector(products, wide(ir.Undefined), half([2 * n + m for n in range(count // 2)]))
        for m in (0, 1)
    )
    return b.add(even, odd)


class BlockRows:
    """The rows of blocks that a function reads, and their scales as it has them in float32."""

    def __init__(
        self,
        p: FunctionBuilder,
        kind: BlockType,
        blocks: ir.Value,
        width: ir.Value,
        its_format: Format,
    ) -> None:
        self.p, self.kind, self.format = p, kind, its_format
        self.blocks, self.width = blocks, width
        self.num_blocks = p.b.sdiv(width, I64(kind.elements))
        self.num_groups = p.b.sdiv(width, I64(self.format.group))
        self.row_bytes = p.b.mul(self.num_blocks, I64(kind.num_bytes))

    def row(self, out: ir.Value) -> ir.Value:
        return self.p.at(self.blocks, I8, self.p.b.mul(out, self.row_bytes))

    def block(self, row: ir.Value, at: ir.Value) -> ir.Value:
        return self.p.at(row, I8, self.p.b.mul(at, I64(self.kind.num_bytes)))

    def codes(self, row: ir.Value, run: ir.Value, at: int, read: Callable[..., T]) -> T:
        """32 columns of a row, by `read` as by `Format.codes`: number `at` of the row's `run`, of
        `unrolled` times as many."""
        b, runs = self.p.b, self.kind.elements // (PART * self.format.unrolled)
        block = self.block(row, b.udiv(run, I64(runs)))
        return read(self.p, block, b.urem(run, I64(runs)), at)

    def store_scales(self, row: ir.Value, scales: ir.Value, offsets: ir.Value | None) -> None:
        """Of all groups of a row, side by side."""
        p, per_block = self.p, self.kind.elements // self.format.group
        read, start = self.format.scales, I64(0)

        def keep(found: Scales, at: ir.Value) -> None:
            for values, place in zip(found, (scales, offsets), strict=True):
                if values is not None and place is not None:
                    p.store(values, place, p.b.mul(at, I64(per_block)))

        if isinstance(read, Halves):
            stop = p.aligned_end(start, self.num_blocks, _HALVES)
            with p.loop(start, stop, _HALVES) as at:
                blocks = [self.block(row, p.b.add(at, I64(lane))) for lane in range(_HALVES)]
                keep(read.of_blocks(p, blocks), at)
            start = stop
        with p.loop(start, self.num_blocks, 1) as at:
            keep(read(p, self.block(row, at)), at)


class Gemm(FunctionBuilder, Generic[T]):
    """`T` are the codes of 32 columns."""

    x_type: ir.Type = I16

    def __init__(self, function: ir.Function, kind: BlockType, its_format: Format) -> None:
        super().__init__(function, 5, 6)
        self.x, self.x_scales, self.x_sums, blocks, self.out = self.fields[:5]
        self.rows, self.outs, self.width, self.out_stride, self.chunk, _ = self.fields[5:]
        self.blocks = BlockRows(self, kind, blocks, self.width, its_format)
        self.format, self.kind = its_format, kind
        b = self.b
        self.num_parts = b.sdiv(self.width, I64(PART))
        # Of the outputs in work: an output's scales, and after them its offsets.
        self.scales_type = ir.VectorType(F32, _PARTS * PART // self.format.group)
        count = b.mul(self.blocks.num_groups, I64(2 * OUTS))
        self.numbers = self.array(b.add(count, I64(self.scales_type.count)))

    def prepared(self, number: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Where scales and offsets of an output in work are."""
        count = self.blocks.num_groups
        scales = self.at(self.numbers, F32, self.b.mul(count, self.b.mul(number, I64(2))))
        return scales, self.at(scales, F32, count)

    def write(self, tiles: Sequence[tuple[int, int]]) -> None:
        """In tiles of so many rows by so many outputs, the first while enough rows are left."""
        b = self.b
        with self.work_stealing_loop(self.places[-1], self.chunk, self.outs) as (first, end):
            last = b.sub(end, I64(1))
            if self.reads_scales_once:
                is_one = b.icmp_signed("==", self.rows, I64(1))
                with self.loop(first, b.select(is_one, end, first), OUTS) as out:
                    self.tile(self.outs_from(out, range(OUTS), last), [I64(0)], None)
                several = b.select(is_one, end, first)
            else:
                several = first
            with self.loop(several, end, OUTS) as out:
                row: ir.Value = I64(0)
                self.prepare(out, last)
                for count, num_outs in tiles:
                    stop = self.aligned_end(row, self.rows, count)
                    with self.loop(row, stop, count) as at:
                        rows = [b.add(at, I64(n)) for n in range(count)]
                        with self.loop(I64(0), I64(OUTS), num_outs) as start:
                            numbers = [b.add(start, I64(n)) for n in range(num_outs)]
                            self.tile(self.outs_from(out, numbers, last), rows, numbers)
                    row = stop

    def outs_from(
        self, first: ir.Value, numbers: Iterable[ir.Value | int], last: ir.Value
    ) -> list[ir.Value]:
        """Where fewer are left, the last again: it gets the same bits."""
        wide = (I64(number) if isinstance(number, int) else number for number in numbers)
        return [self.smaller(self.b.add(first, number), last) for number in wide]

    def prepare(self, first: ir.Value, last: ir.Value) -> None:
        with self.loop(I64(0), I64(OUTS), 1) as number:
            row = self.blocks.row(self.smaller(self.b.add(first, number), last))
            self.blocks.store_scales(row, *self.prepared(number))

    def tile(
        self,
        outs: Sequence[ir.Value],
        rows: Sequence[ir.Value],
        numbers: Sequence[ir.Value] | None,
    ) -> None:
        """`outs` are those in work with these numbers; without, one row's whose scales are taken
        from the blocks: the same, in the same order."""
        b = self.b
        places = [self.prepared(number) for number in numbers or ()]
        added = [self.local(_EIGHT(None)) for _ in outs]
        weights = [self.blocks.row(out) for out in outs]
        xs = [self.at(self.x, self.x_type, b.mul(row, self.width)) for row in rows]
        x_scales = [self.at(self.x_scales, F32, b.mul(row, self.num_parts)) for row in rows]
        totals = [[self.local(_EIGHT(None)) for _ in rows] for _ in outs]
        products = [[self.local(self.scales_type(None)) for _ in rows] for _ in outs]
        with self.loop(I64(0), self.num_parts, _PARTS) as first:
            self.prefetch_next(weights, first)
            if numbers is None:
                for weight, of_out, more in zip(weights, products, added, strict=True):
                    self.scale_block(weight, first, x_scales[0], of_out[0], more)
            else:
                groups, count = I64(PART // self.format.group), self.scales_type.count
                for (scales, _), of_out in zip(places, products, strict=True):
                    found = self.load(scales, F32, b.mul(first, groups), count)
                    for x_scale, place in zip(x_scales, of_out, strict=True):
                        b.store(self.product_of_scales(found, x_scale, first), place)
            stop = self.smaller(b.add(first, I64(_PARTS)), self.num_parts)
            unrolled = self.format.unrolled
            with self.loop(first, stop, unrolled) as at:
                run = b.udiv(at, I64(unrolled))
                for number in range(unrolled):
                    codes = [self.codes(weight, run, number) for weight in weights]
                    part = b.add(at, I64(number))
                    self.add_part(codes, products, b.sub(part, first), xs, totals, part)
        for number, out in enumerate(outs):
            for at, row in enumerate(rows):
                if numbers is not None:
                    self.add_offsets(added[number], *places[number], row)
                total = self.with_offsets(totals[number][at], added[number])
                place = b.add(b.mul(row, self.out_stride), out)
                self.store(self.lane_sum(total), self.out, place)

    @property
    def reads_scales_once(self) -> bool:
        """Whether a block has all scales of _PARTS parts: then one row needs no room for them."""
        return self.kind.elements == _PARTS * PART

    @property
    def has_offsets(self) -> bool:
        return bool(self.format.bias) or self.format.has_offsets

    def scale_block(
        self,
        weight: ir.Value,
        first: ir.Value,
        x_scale: ir.Value,
        product: ir.Value,
        added: ir.Value,
    ) -> None:
        """What a block's scales and offsets give the only row: see `reads_scales_once`."""
        b, block = self.b, self.blocks.block(weight, self.b.udiv(first, I64(_PARTS)))
        scales, offsets = self.format.scales(self, block)
        b.store(self.product_of_scales(scales, x_scale, first), product)
        if not self.has_offsets:
            return
        factors, groups = offsets if offsets is not None else scales, PART // self.format.group
        for start in range(0, _PARTS * groups, _SUMS):
            order = ir.VectorType(I32, _SUMS)(list(range(start, start + _SUMS)))
            some = b.shuffle_vector(factors, factors.type(ir.Undefined), order)
            at = b.add(b.mul(first, I64(groups)), I64(start))
            self.fma_into(added, some, self.load(self.x_sums, F32, at, _SUMS))

    def prefetch_next(self, weights: Sequence[ir.Value], first: ir.Value) -> None:
        """The same columns of the outputs after these: processors foresee one run of addresses."""
        b, size = self.b, _PARTS * PART // self.kind.elements * self.kind.num_bytes
        begun = b.mul(b.udiv(first, I64(_PARTS)), I64(size))
        ahead = b.add(b.mul(self.blocks.row_bytes, I64(OUTS)), begun)
        for weight in weights:
            for line in range(0, size, _LINE_BYTES):
                self.prefetch(weight, I8, b.add(ahead, I64(line)))

    def product_of_scales(self, scales: ir.Value, x_scale: ir.Value, first: ir.Value) -> ir.Value:
        """An output's `scales` times a row's, of the groups of _PARTS parts from `first` on.

        Behind the last part there is room, and what is there is not used.
        """
        b, count = self.b, self.scales_type.count
        of_x = self.load(x_scale, F32, first, _PARTS)
        groups = count // _PARTS  # that share a scale of x
        order = ir.VectorType(I32, count)([at // groups for at in range(count)])
        spread = b.shuffle_vector(of_x, of_x.type(ir.Undefined), order)
        return b.fmul(scales, spread)

    def codes(self, row: ir.Value, run: ir.Value, at: int) -> T:
        """See `BlockRows.codes`."""
        raise NotImplementedError

    def x_of_part(self, x: ir.Value, column: ir.Value) -> Sequence[ir.Value]:
        """A row's 32 columns from `column` on."""
        raise NotImplementedError

    def dot(self, codes: T, x: Sequence[ir.Value]) -> ir.Value:
        """Eight int32: sums of columns, of which those of the first 16 come first."""
        raise NotImplementedError

    def add_part(
        self,
        codes: Sequence[T],
        scales: Sequence[Sequence[ir.Value]],
        number: ir.Value,
        xs: Sequence[ir.Value],
        totals: Sequence[Sequence[ir.Value]],
        at: ir.Value,
    ) -> None:
        """The row's columns from 32 `at` on, whose scales are those of part `number`."""
        column = self.b.mul(at, I64(PART))
        of_rows = [self.x_of_part(x, column) for x in xs]
        for of_weight, of_out, sums in zip(codes, scales, totals, strict=True):
            for of_row, place, total in zip(of_rows, of_out, sums, strict=True):
                products = self.b.sitofp(self.dot(of_weight, of_row), _EIGHT)
                self.fma_into(total, products, self.scale(place, number))

    def scale(self, scales: ir.Value, at: ir.Value) -> ir.Value:
        """Of each lane of the sums of 32 columns."""
        if self.format.group == PART:
            return self.broadcast(self.load(scales, F32, at), 8)
        two = self.load(scales, F32, self.b.mul(at, I64(2)), 2)
        order = ir.VectorType(I32, 8)([0] * 4 + [1] * 4)
        return self.b.shuffle_vector(two, two.type(ir.Undefined), order)

    def add_offsets(
        self, added: ir.Value, scales: ir.Value, offsets: ir.Value, row: ir.Value
    ) -> None:
        """A row's sums times offsets, or times scales where codes are too large by a bias."""
        b = self.b
        if not self.has_offsets:
            return
        count = self.blocks.num_groups
        sums = self.at(self.x_sums, F32, b.mul(row, count))
        factors = scales if self.format.bias else offsets
        b.store(_EIGHT(None), added)
        whole = self.aligned_end(I64(0), count, _SUMS)
        with self.loop(I64(0), whole, _SUMS) as at:
            left, right = (self.load(base, F32, at, _SUMS) for base in (factors, sums))
            self.fma_into(added, left, right)
        rest = self.local(F32(0.0))
        b.store(F32(0.0), rest)
        with self.loop(whole, count, 1) as at:
            left, right = (self.load(base, F32, at) for base in (factors, sums))
            self.fma_into(rest, left, right)
        first = b.insert_element(_EIGHT(None), b.load(rest, typ=F32), I32(0))
        b.store(b.fadd(b.load(added, typ=_EIGHT), first), added)

    def with_offsets(self, total: ir.Value, added: ir.Value) -> ir.Value:
        b, bias = self.b, self.format.bias
        found = b.load(total, typ=_EIGHT)
        if not self.has_offsets:
            return found
        more = b.load(added, typ=_EIGHT)
        return self.fma(more, _EIGHT([-float(bias)] * 8), found) if bias else b.fadd(found, more)


class _WordGemm(Gemm[Codes]):
    def codes(self, row: ir.Value, run: ir.Value, at: int) -> Codes:
        return self.blocks.codes(row, run, at, self.format.codes)

    def x_of_part(self, x: ir.Value, column: ir.Value) -> Sequence[ir.Value]:
        half = PART // 2
        return [self.load(x, I16, self.b.add(column, I64(n * half)), half) for n in (0, 1)]

    def dot(self, codes: Codes, x: Sequence[ir.Value]) -> ir.Value:
        even, odd = (dot(self.b, *both) for both in zip(codes, x, strict=True))
        return self.b.add(even, odd)
