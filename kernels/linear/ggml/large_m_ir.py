"""JIT of matmuls of large M with GGML's blocks: twice the products of float32 in an instruction.

A thread unpacks LANES outputs at a time to int16, pairs of columns of all of them side by side, and
multiplies them with pairs of each row's x (pack_ir.py): a lane is an output, so nothing is summed
across lanes. What is unpacked stays in the cache while all rows pass. Sums of a group are exact;
they are scaled and added in float32, in the order of the groups: bits do not depend on M, on
outputs beside, or on threads.
"""

from collections.abc import Sequence
from ctypes import Structure, c_int64, c_void_p
from functools import cache

from llvmlite import ir

from kernels.ggml.block_type import BlockType
from kernels.jit import builder
from kernels.jit.builder import F32, I8, I16, I32, I64, INTEGERS, LANES, VECTOR, FunctionBuilder
from kernels.linear.ggml.small_m_ir import BlockRows, dot
from kernels.linear.ggml.unpack_ir import FORMATS, PART, Format

_PAIRS = PART // 2
HALF = LANES // 2
EIGHT = ir.VectorType(I32, HALF)


class GemmArgs(Structure):
    """One GEMM. Threads take `chunk` outputs at a time from `next` on, until none are left."""

    _fields_ = (
        ("x", c_void_p),  # of a PackArgs: packed
        ("x_scales", c_void_p),
        ("x_sums", c_void_p),  # or half sums, for groups of 16
        ("blocks", c_void_p),  # [outs, row bytes]
        ("out", c_void_p),  # [rows, out_stride] float32
        ("workspace", c_void_p),  # [threads, workspace_bytes]
        ("rows", c_int64),
        ("outs", c_int64),
        ("width", c_int64),
        ("out_stride", c_int64),
        ("chunk", c_int64),  # a multiple of LANES
        ("workspace_bytes", c_int64),
        ("threads", c_int64),  # that have a workspace so far
        ("next", c_int64),
    )


def workspace_bytes(width: int, outs: int, code_bytes: int) -> int:
    """A thread's for `outs` outputs: codes, and scales and offsets of groups of 16 at most."""
    return outs * (code_bytes * width + 2 * 4 * (width // 16)) + 4 * 2 * (width // 16)


@cache
def compiled(kind: BlockType) -> int:
    return builder.compiled(
        lambda function, has_many: write(function, kind, has_many), unrolls=False
    )


def write(function: ir.Function, kind: BlockType, has_many_registers: bool) -> None:
    # Twice as many accumulators, codes and a pair of x fill the registers.
    _WordGemm(function, kind, FORMATS[kind]).write(10 if has_many_registers else 5)


class Gemm(FunctionBuilder):
    x_type: ir.Type = I16  # as wide as unpacked codes

    def __init__(self, function: ir.Function, kind: BlockType, its_format: Format) -> None:
        super().__init__(function, 6, 8)
        self.x, self.x_scales, self.x_sums, blocks, self.out, workspace = self.fields[:6]
        self.rows, self.outs, self.width, self.out_stride, self.chunk, size = self.fields[6:12]
        self.blocks = BlockRows(self, kind, blocks, self.width, its_format)
        self.format, self.kind, b = self.blocks.format, kind, self.b
        self.num_parts = b.sdiv(self.width, I64(PART))
        slot = b.atomic_rmw("add", self.places[-2], I64(1), "monotonic")
        # One output's scales and offsets; then all outputs': codes, scales, offsets.
        groups = self.blocks.num_groups
        self.single = self.at(workspace, I8, b.mul(slot, size))
        self.single_offsets = self.at(self.single, F32, groups)
        self.codes = self.at(self.single_offsets, F32, groups)
        self.panel_codes = b.mul(self.width, I64(self.x_type.width // 8 * LANES))  # bytes
        self.panel_scales = b.mul(groups, I64(4 * LANES))
        num_panels = b.sdiv(self.chunk, I64(LANES))
        self.scales = self.at(self.codes, I8, b.mul(num_panels, self.panel_codes))
        self.offsets = self.at(self.scales, I8, b.mul(num_panels, self.panel_scales))

    def write(self, height: int) -> None:
        """In tiles of so many rows; where fewer are left, the last again: it gets the same bits."""
        b, last = self.b, self.b.sub(self.rows, I64(1))
        with self.work_stealing_loop(self.places[-1], self.chunk, self.outs) as (first, end):
            num_panels = b.sdiv(b.add(b.sub(end, first), I64(LANES - 1)), I64(LANES))
            with self.loop(I64(0), num_panels, 1) as panel:
                self.unpack(b.add(first, b.mul(panel, I64(LANES))), panel)
            with (
                self.loop(I64(0), self.rows, height) as row,
                self.loop(I64(0), num_panels, 1) as panel,
            ):
                rows = [self.smaller(b.add(row, I64(n)), last) for n in range(height)]
                self.tile(b.add(first, b.mul(panel, I64(LANES))), end, rows, panel)

    def panel(self, base: ir.Value, size: ir.Value, panel: ir.Value) -> ir.Value:
        return self.at(base, I8, self.b.mul(panel, size))

    def unpack(self, first: ir.Value, panel: ir.Value) -> None:
        """LANES outputs; where there are fewer, the last again and again."""
        b = self.b
        last = b.sub(self.outs, I64(1))
        scales = self.panel(self.scales, self.panel_scales, panel)
        offsets = self.panel(self.offsets, self.panel_scales, panel)
        codes = self.panel(self.codes, self.panel_codes, panel)
        with self.loop(I64(0), I64(LANES), 1) as lane:
            row = self.blocks.row(self.smaller(b.add(first, lane), last))
            self.blocks.store_scales(row, self.single, self.single_offsets)
            with self.loop(I64(0), self.blocks.num_groups, 1) as group:
                place = b.add(b.mul(group, I64(LANES)), lane)
                self.store(self.load(self.single, F32, group), scales, place)
                if self.format.has_offsets:
                    self.store(self.load(self.single_offsets, F32, group), offsets, place)
        with self.loop(I64(0), I64(LANES), HALF) as lane:
            lanes = [b.add(b.add(first, lane), I64(n)) for n in range(HALF)]
            rows = [self.blocks.row(self.smaller(out, last)) for out in lanes]
            unrolled = self.format.unrolled
            with self.loop(I64(0), self.num_parts, unrolled) as first_part:
                run = b.udiv(first_part, I64(unrolled))
                for number in range(unrolled):
                    part = b.add(first_part, I64(number))
                    self.unpack_codes(rows, run, number, part, codes, lane)

    def tile(
        self, first: ir.Value, end: ir.Value, rows: Sequence[ir.Value], panel: ir.Value
    ) -> None:
        """Of one panel, its first output `first`, with `rows`."""
        b = self.b
        codes = self.panel(self.codes, self.panel_codes, panel)
        scales = self.panel(self.scales, self.panel_scales, panel)
        offsets = self.panel(self.offsets, self.panel_scales, panel)
        xs = [self.at(self.x, self.x_type, b.mul(row, self.width)) for row in rows]
        x_scales = [self.at(self.x_scales, F32, b.mul(row, self.num_parts)) for row in rows]
        x_sums = [self.at(self.x_sums, F32, b.mul(row, self.blocks.num_groups)) for row in rows]
        totals = [self.local(VECTOR(None)) for _ in rows]
        per_part = PART // self.format.group
        with self.loop(I64(0), self.num_parts, 1) as at:
            spread = [self.broadcast(self.load(x_scale, F32, at)) for x_scale in x_scales]
            for number in range(per_part):
                sums = self.sums(codes, xs, at, number)
                group = b.add(b.mul(at, I64(per_part)), I64(number))
                lanes = b.mul(group, I64(LANES))
                scale = self.load(scales, F32, lanes, LANES)
                if self.format.bias:
                    self.add_unbiased(totals, sums, spread, scale, x_sums, group)
                    continue
                for total, some, x_scale in zip(totals, sums, spread, strict=True):
                    self.fma_into(total, b.sitofp(some, VECTOR), b.fmul(scale, x_scale))
                if self.format.has_offsets:
                    offset = self.load(offsets, F32, lanes, LANES)
                    for total, x_sum in zip(totals, x_sums, strict=True):
                        self.fma_into(total, offset, self.broadcast(self.load(x_sum, F32, group)))
        self.store_tile(first, end, rows, totals)

    def add_unbiased(
        self,
        totals: Sequence[ir.Value],
        sums: Sequence[ir.Value],
        x_scales: Sequence[ir.Value],
        scale: ir.Value,
        x_sums: Sequence[ir.Value],
        group: ir.Value,
    ) -> None:
        """Sums of codes that are all too large by the format's bias."""
        b, bias = self.b, VECTOR([-float(self.format.bias)] * LANES)
        for total, some, x_scale, x_sum in zip(totals, sums, x_scales, x_sums, strict=True):
            excess = b.fmul(self.broadcast(self.load(x_sum, F32, group)), bias)
            self.fma_into(total, scale, self.fma(b.sitofp(some, VECTOR), x_scale, excess))

    def unpack_codes(
        self,
        rows: Sequence[ir.Value],
        run: ir.Value,
        number: int,
        part: ir.Value,
        codes: ir.Value,
        lane: ir.Value,
    ) -> None:
        """A part of `rows`, `lane` of a panel and the next seven; see `BlockRows.codes`."""
        raise NotImplementedError

    def sums(
        self, codes: ir.Value, xs: Sequence[ir.Value], part: ir.Value, group: int
    ) -> list[ir.Value]:
        """Of one of a part's groups, INTEGERS for each of `xs`."""
        raise NotImplementedError

    def store_tile(
        self,
        first: ir.Value,
        end: ir.Value,
        rows: Sequence[ir.Value],
        totals: Sequence[ir.Value],
    ) -> None:
        b = self.b
        values = [b.load(total, typ=VECTOR) for total in totals]
        places = [b.add(b.mul(row, self.out_stride), first) for row in rows]
        left = b.sub(end, first)
        with b.if_else(b.icmp_signed(">=", left, I64(LANES))) as (whole, some):
            with whole:
                for value, place in zip(values, places, strict=True):
                    self.store(value, self.out, place)
            with some, self.loop(I64(0), left, 1) as lane:
                for value, place in zip(values, places, strict=True):
                    one = b.extract_element(value, b.trunc(lane, I32))
                    self.store(one, self.out, b.add(place, lane))


class _WordGemm(Gemm):
    def unpack_codes(
        self,
        rows: Sequence[ir.Value],
        run: ir.Value,
        number: int,
        part: ir.Value,
        codes: ir.Value,
        lane: ir.Value,
    ) -> None:
        b, pair = self.b, self.b.mul(part, I64(_PAIRS))
        found = [self.blocks.codes(row, run, number, self.format.codes) for row in rows]
        for odd in (0, 1):
            vectors = [b.bitcast(both[odd], EIGHT) for both in found]
            for at, vector in enumerate(transposed(b, vectors), odd * HALF):
                of_pair = b.mul(b.add(pair, I64(at)), I64(LANES))
                b.store(vector, self.at(codes, I32, b.add(of_pair, lane)), align=1)

    def sums(
        self, codes: ir.Value, xs: Sequence[ir.Value], part: ir.Value, group: int
    ) -> list[ir.Value]:
        """A run of even pairs of columns, and one of odd pairs."""
        b, words = self.b, ir.VectorType(I16, 2 * LANES)
        sums = [self.local(INTEGERS(None)) for _ in xs]
        for place in sums:
            b.store(INTEGERS(None), place)
        length = self.format.group // 4
        first = b.add(b.mul(part, I64(_PAIRS)), I64(group * length))
        with self.loop(first, b.add(first, I64(length)), 1) as begun:
            for odd in (0, 1):
                at = b.add(begun, I64(odd * HALF))
                weights = b.bitcast(self.load(codes, I32, b.mul(at, I64(LANES)), LANES), words)
                for total, x in zip(sums, xs, strict=True):
                    both = b.bitcast(self.broadcast(self.load(x, I32, at)), words)
                    b.store(b.add(b.load(total, typ=INTEGERS), dot(b, weights, both)), total)
        return [b.load(place, typ=INTEGERS) for place in sums]


def transposed(b: ir.IRBuilder, rows: Sequence[ir.Value]) -> list[ir.Value]:
    """Of n vectors of n lanes: lane i of the j-th is lane j of the i-th."""
    count = len(rows)
    kind = ir.VectorType(I32, count)
    low = kind([n // 2 + count * (n % 2) for n in range(count)])
    high = kind([count // 2 + n // 2 + count * (n % 2) for n in range(count)])
    vectors = list(rows)
    for _ in range(count.bit_length() - 1):
        half = count // 2
        pairs = list(zip(vectors[:half], vectors[half:], strict=True))
        vectors = [
            b.shuffle_vector(left, right, order) for left, right in pairs for order in (low, high)
        ]
    return vectors
