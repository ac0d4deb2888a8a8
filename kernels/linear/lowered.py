"""Machine code for products of few float32 rows with int8 and int4 weights, made by LLVM.

A vector of codes is read, turned into float32 in registers and multiplied: weights are read once,
as they are stored, one after the other. Each output has an accumulator of LANES lanes (int8: two);
with int4 a group's products of codes are scaled and added to it, and so are the offsets times the
sums of the rows' groups. Codes are taken from the middle of their range, or else the two sums would
be large and nearly cancel each other:

    out = sum_g scale_g sum_j (code_j - 8) x_j  +  sum_g (offset_g + 8 scale_g) sum_j x_j

The order of every sum is fixed by what is written here, not by an optimiser, and the same in all
tiles: it does not depend on how many rows, outputs or threads there are, so neither do the bits.
"""

import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import Structure, c_int64, c_void_p
from functools import cache
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

LANES = 16
OUTS = 4  # that are computed together
_MIDDLE = 8.0  # of int4 codes
_INT8_ACCUMULATORS = 2  # or else each addition waits for the one before

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_F16, _F32, _POINTER = ir.HalfType(), ir.FloatType(), ir.PointerType()
_VECTOR, _INTEGERS = (ir.VectorType(kind, LANES) for kind in (_F32, _I32))


class Job(Structure):
    """One product. Threads take `chunk` outputs at a time from `next` on, until none are left.

    `chunk` is a multiple of OUTS.
    """

    _fields_ = (
        ("x", c_void_p),  # [rows, width] float32
        ("codes", c_void_p),  # [outs, width] int8, or [outs, width / 2] uint8
        ("scales", c_void_p),  # [outs] float32, or [outs, groups] float16
        ("offsets", c_void_p),  # [outs, groups] float16
        ("out", c_void_p),  # [rows, outs] float32
        ("rows", c_int64),
        ("outs", c_int64),
        ("width", c_int64),
        ("chunk", c_int64),
        ("next", c_int64),
    )


_JOB = ir.LiteralStructType([_POINTER] * 5 + [_I64] * 5)


def is_known_machine() -> bool:
    """Whether this processor has the instructions without which LLVM would call functions."""
    needed = _NEEDED.get(platform.machine().lower())
    have = llvm.get_host_cpu_features()
    return needed is not None and all(have.get(name) for name in needed)


_NEEDED = {
    **dict.fromkeys(("x86_64", "amd64"), ("avx2", "fma", "f16c")),
    **dict.fromkeys(("aarch64", "arm64"), ("neon",)),
}


@cache
def compiled(group: int) -> int:
    """The address of the function that does its part of a `Job`; `group` is 0 for int8.

    A tenth of a second at the first call. Raises RuntimeError if LLVM cannot.
    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features.flatten(), opt=3
    )
    module = optimised(group, machine, has_many_registers=bool(features.get("avx512f")))
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    _ENGINES.append(engine)
    address: int = engine.get_function_address(_NAME)
    return address


_ENGINES: list[Any] = []  # they own the code
_NAME = "product"


def optimised(
    group: int, machine: llvm.TargetMachine, *, has_many_registers: bool
) -> llvm.ModuleRef:
    """The module of `_NAME` for `machine`; with 32 registers of 16 lanes tiles can be larger."""
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_POINTER]), _NAME)
    tiles = ((4, 2), (2, 2), (1, OUTS)) if has_many_registers else ((2, 1), (1, 2))
    (_Int4Product(function, group) if group else _Int8Product(function)).write(tiles)
    parsed = llvm.parse_assembly(str(module))
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = False
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(parsed, passes)
    return parsed


class _Product:
    """Writes the function."""

    def __init__(self, function: ir.Function) -> None:
        self.b = b = ir.IRBuilder(function.append_basic_block())
        (job,) = function.args
        places = [b.gep(job, [_I32(0), _I32(n)], source_etype=_JOB) for n in range(10)]
        pointers = [b.load(place, typ=_POINTER) for place in places[:5]]
        self.x, self.codes, self.scales, self.offsets, self.out = pointers
        numbers = [b.load(place, typ=_I64) for place in places[5:9]]
        self.rows, self.outs, self.width, self.chunk = numbers
        self.next = places[9]
        self.fma = {
            kind: ir.Function(
                function.module, ir.FunctionType(kind, [kind] * 3), f"llvm.fma.{suffix}"
            )
            for kind, suffix in ((_F32, "f32"), (_VECTOR, f"v{LANES}f32"))
        }

    def tile(self, outs: Sequence[ir.Value], rows: Sequence[ir.Value]) -> list[list[ir.Value]]:
        """The product of each of `outs` with each of `rows`."""
        raise NotImplementedError

    def write(self, tiles: Sequence[tuple[int, int]]) -> None:
        b = self.b
        take, work, done = (b.append_basic_block() for _ in range(3))
        b.branch(take)
        b.position_at_end(take)
        first = b.atomic_rmw("add", self.next, self.chunk, "monotonic")
        b.cbranch(b.icmp_signed("<", first, self.outs), work, done)
        b.position_at_end(work)
        end = b.add(first, self.chunk)
        end = b.select(b.icmp_signed("<", end, self.outs), end, self.outs)
        fours_end = self.whole(first, end, OUTS)
        with self.loop(first, fours_end, OUTS) as out:
            outs, row = [b.add(out, _I64(n)) for n in range(OUTS)], _I64(0)
            for count, num_outs in tiles:
                stop = self.whole(row, self.rows, count)
                with self.loop(row, stop, count) as at:
                    rows = [b.add(at, _I64(n)) for n in range(count)]
                    for start in range(0, OUTS, num_outs):
                        self.stored_tile(outs[start : start + num_outs], rows)
                row = stop
        with self.loop(fours_end, end, 1) as out, self.loop(_I64(0), self.rows, 1) as at:
            self.stored_tile([out], [at])
        b.branch(take)
        b.position_at_end(done)
        b.ret_void()

    def stored_tile(self, outs: Sequence[ir.Value], rows: Sequence[ir.Value]) -> None:
        for out, of_out in zip(outs, self.tile(outs, rows), strict=True):
            for row, total in zip(rows, of_out, strict=True):
                self.store(total, self.out, self.b.add(self.b.mul(row, self.outs), out))

    def accumulators(
        self, outs: Sequence[ir.Value], rows: Sequence[ir.Value]
    ) -> list[list[ir.Value]]:
        return [[self.local(_VECTOR(None)) for _ in rows] for _ in outs]

    def row_of(self, base: ir.Value, kind: ir.Type, row: ir.Value, width: ir.Value) -> ir.Value:
        return self.at(base, kind, self.b.mul(row, width))

    @contextmanager
    def loop(self, start: ir.Value, stop: ir.Value, step: int) -> Iterator[ir.Value]:
        b = self.b
        head, body, after = (b.append_basic_block() for _ in range(3))
        before = b.block
        b.branch(head)
        b.position_at_end(head)
        index = b.phi(_I64)
        index.add_incoming(start, before)
        b.cbranch(b.icmp_signed("<", index, stop), body, after)
        b.position_at_end(body)
        yield index
        index.add_incoming(b.add(index, _I64(step)), b.block)
        b.branch(head)
        b.position_at_end(after)

    def whole(self, start: ir.Value, stop: ir.Value, step: int) -> ir.Value:
        """The last of `start`, `start` + `step`, ... that is not beyond `stop`."""
        return self.b.sub(stop, self.b.srem(self.b.sub(stop, start), _I64(step)))

    def local(self, value: ir.Value) -> ir.Value:
        """A variable; it ends in a register."""
        with self.b.goto_entry_block():
            place = self.b.alloca(value.type)
        self.b.store(value, place)
        return place

    def at(self, base: ir.Value, kind: ir.Type, index: ir.Value) -> ir.Value:
        return self.b.gep(base, [index], source_etype=kind)

    def load(self, base: ir.Value, kind: ir.Type, index: ir.Value, count: int = 0) -> ir.Value:
        """One number, or a vector of `count`, from any address."""
        typ = ir.VectorType(kind, count) if count else kind
        return self.b.load(self.at(base, kind, index), typ=typ, align=1)

    def store(self, value: ir.Value, base: ir.Value, index: ir.Value) -> None:
        self.b.store(value, self.at(base, _F32, index), align=1)

    def fused(self, left: ir.Value, right: ir.Value, total: ir.Value) -> ir.Value:
        """left right + total, rounded once."""
        return self.b.call(self.fma[left.type], [left, right, total])

    def add_product(self, place: ir.Value, left: ir.Value, right: ir.Value) -> None:
        self.b.store(self.fused(left, right, self.b.load(place, typ=left.type)), place)

    def spread_half(self, base: ir.Value, index: ir.Value) -> ir.Value:
        """One float16 in every lane of a float32 vector.

        As an integer until it is spread: a float16 is loaded into a part of a register on x86, so
        that each load waits for what the register was used for before.
        """
        b, vector = self.b, ir.VectorType(_I16, LANES)
        one = b.insert_element(vector(ir.Undefined), self.load(base, _I16, index), _I32(0))
        spread = b.shuffle_vector(one, vector(ir.Undefined), _INTEGERS(None))
        return b.fpext(b.bitcast(spread, ir.VectorType(_F16, LANES)), _VECTOR)

    def lane_sum(self, value: ir.Value) -> ir.Value:
        b, count = self.b, LANES
        while count > 1:
            count //= 2
            low, high = (
                ir.VectorType(_I32, count)(list(range(start, start + count)))
                for start in (0, count)
            )
            nothing = value.type(ir.Undefined)
            value = b.fadd(
                b.shuffle_vector(value, nothing, low), b.shuffle_vector(value, nothing, high)
            )
        return b.extract_element(value, _I32(0))


class _Int8Product(_Product):
    def tile(self, outs: Sequence[ir.Value], rows: Sequence[ir.Value]) -> list[list[ir.Value]]:
        b = self.b
        codes = [self.row_of(self.codes, _I8, out, self.width) for out in outs]
        xs = [self.row_of(self.x, _F32, row, self.width) for row in rows]
        banks = [self.accumulators(outs, rows) for _ in range(_INT8_ACCUMULATORS)]
        start: ir.Value = _I64(0)
        for num_banks in (_INT8_ACCUMULATORS, 1):
            stop = self.whole(start, self.width, num_banks * LANES)
            with self.loop(start, stop, num_banks * LANES) as first:
                for bank in range(num_banks):
                    column = b.add(first, _I64(bank * LANES))
                    columns = [self.load(x, _F32, column, LANES) for x in xs]
                    for code, of_out in zip(codes, banks[bank], strict=True):
                        integers = b.sext(self.load(code, _I8, column, LANES), _INTEGERS)
                        numbers = b.sitofp(integers, _VECTOR)
                        for x, accumulator in zip(columns, of_out, strict=True):
                            self.add_product(accumulator, numbers, x)
            start = stop
        totals: list[list[tuple[ir.Value, ir.Value]]] = []
        for number, out in enumerate(outs):
            scale = self.load(self.scales, _F32, out)
            totals.append([])
            for row in range(len(rows)):
                sums = [b.load(bank[number][row], typ=_VECTOR) for bank in banks]
                while len(sums) > 1:
                    sums.append(b.fadd(sums.pop(), sums.pop()))
                totals[-1].append((self.local(self.lane_sum(sums[0])), scale))
        with self.loop(start, self.width, 1) as column:
            for code, of_out in zip(codes, totals, strict=True):
                value = b.sitofp(self.load(code, _I8, column), _F32)
                for x, (total, _) in zip(xs, of_out, strict=True):
                    self.add_product(total, value, self.load(x, _F32, column))
        return [
            [b.fmul(scale, b.load(total, typ=_F32)) for total, scale in of_out] for of_out in totals
        ]


class _Int4Product(_Product):
    def __init__(self, function: ir.Function, group: int) -> None:
        super().__init__(function)
        self.group, b = group, self.b
        self.groups = b.udiv(self.width, _I64(group))
        num_sums = b.mul(self.rows, self.groups)
        self.sums = b.alloca(_F32, num_sums)  # [rows, groups]
        with self.loop(_I64(0), num_sums, 1) as at:
            first = b.mul(at, _I64(group))
            total = self.load(self.x, _F32, first, LANES)
            for part in range(LANES, group, LANES):
                total = b.fadd(total, self.load(self.x, _F32, b.add(first, _I64(part)), LANES))
            self.store(self.lane_sum(total), self.sums, at)

    def tile(self, outs: Sequence[ir.Value], rows: Sequence[ir.Value]) -> list[list[ir.Value]]:
        b = self.b
        width_bytes = b.udiv(self.width, _I64(2))
        codes = [self.row_of(self.codes, _I8, out, width_bytes) for out in outs]
        scales, offsets = (
            [self.row_of(base, _F16, out, self.groups) for out in outs]
            for base in (self.scales, self.offsets)
        )
        xs = [self.row_of(self.x, _F32, row, self.width) for row in rows]
        sums = [self.row_of(self.sums, _F32, row, self.groups) for row in rows]
        accumulators = self.accumulators(outs, rows)
        with self.loop(_I64(0), self.groups, 1) as group:
            for code, scale, of_out in zip(codes, scales, accumulators, strict=True):
                spread = self.spread_half(scale, group)
                products = self.group_products(group, code, xs)
                for accumulator, product in zip(of_out, products, strict=True):
                    self.add_product(accumulator, spread, product)
        whole = self.whole(_I64(0), self.groups, LANES)
        with self.loop(_I64(0), whole, LANES) as group:
            for scale, offset, of_out in zip(scales, offsets, accumulators, strict=True):
                halves = (self.load(each, _F16, group, LANES) for each in (scale, offset))
                numbers = self.middle(*(b.fpext(each, _VECTOR) for each in halves))
                for accumulator, of_row in zip(of_out, sums, strict=True):
                    self.add_product(accumulator, numbers, self.load(of_row, _F32, group, LANES))
        totals = [
            [self.local(self.lane_sum(b.load(one, typ=_VECTOR))) for one in of_out]
            for of_out in accumulators
        ]
        with self.loop(whole, self.groups, 1) as group:
            for scale, offset, of_out in zip(scales, offsets, totals, strict=True):
                halves = (self.load(each, _F16, group) for each in (scale, offset))
                number = self.middle(*(b.fpext(each, _F32) for each in halves))
                for total, of_row in zip(of_out, sums, strict=True):
                    self.add_product(total, number, self.load(of_row, _F32, group))
        return [[b.load(total, typ=_F32) for total in of_out] for of_out in totals]

    def middle(self, scale: ir.Value, offset: ir.Value) -> ir.Value:
        """The weight that code 8 stands for."""
        eight = scale.type([_MIDDLE] * LANES) if scale.type == _VECTOR else _F32(_MIDDLE)
        return self.fused(scale, eight, offset)

    def centred(self, integers: ir.Value, bit: int) -> ir.Value:
        """float32 of the four bits from `bit` on, less 8.

        They are put where ones are in the mantissa of a power of two, which is then subtracted:
        fewer instructions than a shift and a conversion.
        """
        b, exponent = self.b, 23 - bit
        bits = b.and_(integers, _INTEGERS([15 << bit] * LANES))
        bits = b.or_(bits, _INTEGERS([(127 + exponent) << 23] * LANES))
        return b.fsub(b.bitcast(bits, _VECTOR), _VECTOR([2.0**exponent + _MIDDLE] * LANES))

    def group_products(
        self, group: ir.Value, codes: ir.Value, xs: Sequence[ir.Value]
    ) -> list[ir.Value]:
        """The sums, in lanes, of one group's codes times each of `xs`."""
        b, half = self.b, self.group // 2
        byte, column = b.mul(group, _I64(half)), b.mul(group, _I64(self.group))
        products: list[ir.Value] = [None for _ in xs]
        for part in range(0, half, LANES):
            both = b.zext(self.load(codes, _I8, b.add(byte, _I64(part)), LANES), _INTEGERS)
            for bit, first in ((0, part), (4, part + half)):
                numbers = self.centred(both, bit)
                for number, x in enumerate(xs):
                    columns = self.load(x, _F32, b.add(column, _I64(first)), LANES)
                    so_far = products[number]
                    products[number] = (
                        b.fmul(numbers, columns)
                        if so_far is None
                        else self.fused(numbers, columns, so_far)
                    )
        return products
