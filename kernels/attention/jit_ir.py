"""JIT of the attention of few float32 queries over many keys.

Keys are cut into chunks. For each query, head and chunk there is the largest score m, the sum l of
e^(score - m), and the sum of e^(score - m) times values; of these parts the whole is put together
at the end (as in FlashAttention, arXiv 2205.14135). Where chunks begin depends on the keys alone,
so a query's bits do not depend on the queries beside it or on the number of threads.

int8 keys and values are widened a chunk at a time, once for all heads that read them, into memory
that stays in the cache: the bits are those of attention over what `Int8Tensor.dequantize` gives.
"""

from collections.abc import Sequence
from ctypes import Structure, c_float, c_int64, c_void_p
from functools import cache, reduce

from llvmlite import ir

from kernels.jit import builder
from kernels.jit.builder import F32, I8, I32, I64, INTEGERS, LANES, VECTOR, FunctionBuilder

CHUNK = 256  # keys; their values are in the cache when the second half of the work begins
EXTRA = LANES  # elements of a part beyond its sum of values: m, l, and room
_LOWEST = -3e38  # a score of nothing
_MAGNITUDE = 2**31 - 1  # the bits of a float32 without the sign
_TINY = 2.0**-126  # the smallest normal float32
_ROUNDING, _ROUNDING_BITS = 1.5 * 2**23, 0x4B400000  # added, it leaves an integer in the low bits


class PartialArgs(Structure):
    """Parts of all queries and heads over keys that lie together. Strides are in elements."""

    _fields_ = (
        ("queries", c_void_p),  # [T, G, R, D]
        ("keys", c_void_p),
        ("values", c_void_p),
        ("parts", c_void_p),  # [T, G, R, room, D + EXTRA]
        ("key_scales", c_void_p),  # of int8 keys and values
        ("value_scales", c_void_p),
        ("num_queries", c_int64),
        ("num_groups", c_int64),
        ("per_group", c_int64),
        ("num_keys", c_int64),
        ("seen", c_int64),  # keys the first query sees, of these; each other one sees one more
        ("key_stride", c_int64),
        ("key_group_stride", c_int64),
        ("value_stride", c_int64),
        ("value_group_stride", c_int64),
        ("scale_stride", c_int64),  # of both scales
        ("scale_group_stride", c_int64),
        ("num_chunks", c_int64),
        ("first_chunk", c_int64),  # where in `parts` the first of these is
        ("room", c_int64),
        ("scale", c_float),
        ("next", c_int64),
    )


class FullArgs(Structure):
    """What the first `num_chunks` parts of each row are together: that part replaces the first."""

    _fields_ = (
        ("parts", c_void_p),
        ("out", c_void_p),  # [T, G, R, D], the means of the values
        ("num_rows", c_int64),  # T G R
        ("num_chunks", c_int64),
        ("room", c_int64),
    )


class QuantizeArgs(Structure):
    """Rows to int8, each with a scale: `Int8Tensor.quantize`. Strides are in elements."""

    _fields_ = (
        ("x", c_void_p),  # [T, G, D] float32
        ("values", c_void_p),
        ("scales", c_void_p),
        ("tokens", c_int64),
        ("groups", c_int64),
        ("stride", c_int64),  # of tokens of `values`
        ("group_stride", c_int64),
        ("scale_stride", c_int64),
        ("scale_group_stride", c_int64),
    )


@cache
def compiled_partial(head_dim: int, is_int8: bool) -> int:
    """The address of the function that does its part of a `PartialArgs`."""
    return builder.compiled(lambda function, _: write_partial(function, head_dim, is_int8))


@cache
def compiled_full(head_dim: int) -> int:
    return builder.compiled(lambda function, _: write_full(function, head_dim))


@cache
def compiled_quantize(head_dim: int) -> int:
    """The address of the function that does a `QuantizeArgs`."""
    return builder.compiled(lambda function, _: write_quantize(function, head_dim))


def write_quantize(function: ir.Function, head_dim: int) -> None:
    p = _Attention(function, 3, 6)
    b = p.b
    x, values, scales, tokens, groups, stride, group_stride = p.fields[:7]
    scale_stride, scale_group_stride = p.fields[7:]
    with p.loop(I64(0), tokens, 1) as token, p.loop(I64(0), groups, 1) as group:
        row = p.at(x, F32, b.mul(b.add(b.mul(token, groups), group), I64(head_dim)))
        numbers = p.vectors(row, head_dim)
        # Compared as integers, which what is not a number is larger than: it stays.
        magnitudes = [b.and_(b.bitcast(one, INTEGERS), p.all_of(_MAGNITUDE)) for one in numbers]
        largest = p.horizontal_reduce(reduce(p.larger, magnitudes), p.larger)
        scale = b.fdiv(b.bitcast(largest, F32), F32(127.0))
        scale = b.select(b.fcmp_ordered("<", scale, F32(_TINY)), F32(_TINY), scale)
        place = b.add(b.mul(token, scale_stride), b.mul(group, scale_group_stride))
        p.store(scale, scales, place)
        codes = p.at(values, I8, b.add(b.mul(token, stride), b.mul(group, group_stride)))
        spread = p.broadcast(scale)
        for at, one in enumerate(numbers):
            rounded = b.fadd(b.fdiv(one, spread), VECTOR([_ROUNDING] * LANES))
            code = b.sub(b.bitcast(rounded, INTEGERS), p.all_of(_ROUNDING_BITS))
            narrow = b.trunc(code, ir.VectorType(I8, LANES))
            b.store(narrow, p.at(codes, I8, I64(at * LANES)), align=1)
    b.ret_void()


def write_partial(function: ir.Function, head_dim: int, is_int8: bool) -> None:
    program = _Attention(function, 6, 16)
    b = program.b
    queries, keys, values, parts, key_scales, value_scales = program.fields[:6]
    num_queries, num_groups, per_group, num_keys, seen = program.fields[6:11]
    key_stride, key_group, value_stride, value_group = program.fields[11:15]
    scale_stride, scale_group, num_chunks, first_chunk, room = program.fields[15:20]
    scale = program.broadcast(b.load(program.places[20], typ=F32))
    scores = program.array(I64(CHUNK))
    wide = [program.array(I64(CHUNK * head_dim)) for _ in range(2)] if is_int8 else []
    kind = I8 if is_int8 else F32
    with program.work_stealing_loop(program.places[21], I64(1), b.mul(num_groups, num_chunks)) as (
        unit,
        _,
    ):
        group, chunk = b.srem(unit, num_groups), b.sdiv(unit, num_groups)
        first_key = b.mul(chunk, I64(CHUNK))
        in_chunk = program.minimum(b.sub(num_keys, first_key), I64(CHUNK))
        k = program.at(keys, kind, b.add(b.mul(first_key, key_stride), b.mul(group, key_group)))
        v = program.at(
            values, kind, b.add(b.mul(first_key, value_stride), b.mul(group, value_group))
        )
        if is_int8:
            at = b.add(b.mul(first_key, scale_stride), b.mul(group, scale_group))
            for codes, stride, scales, rows in (
                (k, key_stride, key_scales, wide[0]),
                (v, value_stride, value_scales, wide[1]),
            ):
                of_these = program.at(scales, F32, at)
                program.widen(codes, stride, of_these, scale_stride, in_chunk, head_dim, rows)
            (k, v), key_stride, value_stride = wide, I64(head_dim), I64(head_dim)
        with (
            program.loop(I64(0), num_queries, 1) as query,
            program.loop(I64(0), per_group, 1) as head,
        ):
            visible = b.sub(b.add(seen, query), first_key)
            count = program.minimum(visible, in_chunk)
            row = b.add(b.mul(b.add(b.mul(query, num_groups), group), per_group), head)
            q = program.vectors(program.at(queries, F32, b.mul(row, I64(head_dim))), head_dim)
            top = program.scores(q, k, key_stride, count, scale, scores)
            total = program.exponentials(scores, count, top)
            sums = program.weighted(scores, v, value_stride, count, head_dim)
            place = b.add(b.mul(row, room), b.add(first_chunk, chunk))
            part = program.at(parts, F32, b.mul(place, I64(head_dim + EXTRA)))
            for at, one in enumerate(sums):
                program.store(one, part, I64(at * LANES))
            program.store(top, part, I64(head_dim))
            program.store(total, part, I64(head_dim + 1))


def write_full(function: ir.Function, head_dim: int) -> None:
    program = _Attention(function, 2, 3)
    b = program.b
    parts, out, num_rows, num_chunks, room = program.fields
    stride = head_dim + EXTRA
    with program.loop(I64(0), num_rows, 1) as row:
        of_row = program.at(parts, F32, b.mul(b.mul(row, room), I64(stride)))
        top, total = program.local(F32(_LOWEST)), program.local(VECTOR(None))
        with program.loop(I64(0), num_chunks, 1) as chunk:
            at = b.add(b.mul(chunk, I64(stride)), I64(head_dim))
            b.store(program.maximum(b.load(top, typ=F32), program.load(of_row, F32, at)), top)
        sums = [program.local(VECTOR(None)) for _ in range(0, head_dim, LANES)]
        highest = program.broadcast(b.load(top, typ=F32))
        with program.loop(I64(0), num_chunks, 1) as chunk:
            part = program.at(of_row, F32, b.mul(chunk, I64(stride)))
            own, own_total = (
                program.broadcast(program.load(part, F32, I64(head_dim + at))) for at in (0, 1)
            )
            share = program.exponential(b.fsub(own, highest))
            program.fma_into(total, share, own_total)
            for one, numbers in zip(sums, program.vectors(part, head_dim), strict=True):
                program.fma_into(one, share, numbers)
        for at, one in enumerate(sums):
            values = b.load(one, typ=VECTOR)
            program.store(values, of_row, I64(at * LANES))
            mean = b.fdiv(values, b.load(total, typ=VECTOR))
            program.store(mean, out, b.add(b.mul(row, I64(head_dim)), I64(at * LANES)))
        program.store(b.load(top, typ=F32), of_row, I64(head_dim))
        first_lane = b.extract_element(b.load(total, typ=VECTOR), I32(0))
        program.store(first_lane, of_row, I64(head_dim + 1))
    b.ret_void()


class _Attention(FunctionBuilder):
    def widen(
        self,
        codes: ir.Value,
        stride: ir.Value,
        scales: ir.Value,
        scale_stride: ir.Value,
        count: ir.Value,
        head_dim: int,
        rows: ir.Value,
    ) -> None:
        """The first `count` int8 rows as float32, in `rows`."""
        b = self.b
        with self.loop(I64(0), count, 1) as key:
            scale = self.broadcast(self.load(scales, F32, b.mul(key, scale_stride)))
            code = self.at(codes, I8, b.mul(key, stride))
            row = self.at(rows, F32, b.mul(key, I64(head_dim)))
            for at in range(0, head_dim, LANES):
                integers = b.sext(self.load(code, I8, I64(at), LANES), INTEGERS)
                self.store(b.fmul(b.sitofp(integers, VECTOR), scale), row, I64(at))

    def scores(
        self,
        q: Sequence[ir.Value],
        keys: ir.Value,
        stride: ir.Value,
        count: ir.Value,
        scale: ir.Value,
        scores: ir.Value,
    ) -> ir.Value:
        """Fills `scores` with those of the first `count` keys, and returns the largest."""
        b, top = self.b, self.local(VECTOR([_LOWEST] * LANES))
        last = b.sub(count, I64(1))
        with self.loop(I64(0), count, LANES) as tile:
            sums = []
            for lane in range(LANES):
                key = self.minimum(b.add(tile, I64(lane)), last)  # none is read behind the last
                numbers = self.vectors(self.at(keys, F32, b.mul(key, stride)), LANES * len(q))
                total = b.fmul(q[0], numbers[0])
                for one, number in zip(q[1:], numbers[1:], strict=True):
                    total = self.fma(one, number, total)
                sums.append(total)
            found = b.fmul(self.lane_sums(sums), scale)
            is_there = b.icmp_signed(
                "<", self.lane_indices(), self.broadcast_int(b.sub(count, tile))
            )
            found = b.select(is_there, found, VECTOR([_LOWEST] * LANES))
            self.store(found, scores, tile)
            b.store(self.maximum(b.load(top, typ=VECTOR), found), top)
        return self.horizontal_reduce(b.load(top, typ=VECTOR), self.maximum)

    def exponentials(self, scores: ir.Value, count: ir.Value, top: ir.Value) -> ir.Value:
        """Replaces each of `scores` s by e^(s - top), and returns their sum."""
        b, total, highest = self.b, self.local(VECTOR(None)), self.broadcast(top)
        with self.loop(I64(0), count, LANES) as tile:
            found = self.exponential(b.fsub(self.load(scores, F32, tile, LANES), highest))
            self.store(found, scores, tile)
            b.store(b.fadd(b.load(total, typ=VECTOR), found), total)
        return self.lane_sum(b.load(total, typ=VECTOR))

    def weighted(
        self, weights: ir.Value, values: ir.Value, stride: ir.Value, count: ir.Value, head_dim: int
    ) -> list[ir.Value]:
        sums = [self.local(VECTOR(None)) for _ in range(0, head_dim, LANES)]
        with self.loop(I64(0), count, 1) as key:
            weight = self.broadcast(self.load(weights, F32, key))
            numbers = self.vectors(self.at(values, F32, self.b.mul(key, stride)), head_dim)
            for one, number in zip(sums, numbers, strict=True):
                self.fma_into(one, weight, number)
        return [self.b.load(one, typ=VECTOR) for one in sums]

    def vectors(self, base: ir.Value, count: int) -> list[ir.Value]:
        return [self.load(base, F32, I64(at), LANES) for at in range(0, count, LANES)]

    def lane_sums(self, values: list[ir.Value]) -> ir.Value:
        """The sum of the lanes of each of LANES vectors, in that order.

        Two vectors become one with half of the lanes to be summed of each, until there is one.
        """
        b, width = self.b, LANES
        while len(values) > 1:
            half = width // 2
            low = [at for at in range(2 * LANES) if at % width < half]
            high = [at + half for at in low]
            masks = [INTEGERS(one) for one in (low, high)]
            pairs = zip(values[::2], values[1::2], strict=True)
            values = [b.fadd(*(b.shuffle_vector(*two, mask) for mask in masks)) for two in pairs]
            width = half
        return values[0]

    def maximum(self, left: ir.Value, right: ir.Value) -> ir.Value:
        return self.b.select(self.b.fcmp_ordered(">", left, right), left, right)

    def minimum(self, left: ir.Value, right: ir.Value) -> ir.Value:
        return self.b.select(self.b.icmp_signed("<", left, right), left, right)

    def larger(self, left: ir.Value, right: ir.Value) -> ir.Value:
        return self.b.select(self.b.icmp_signed(">", left, right), left, right)

    @staticmethod
    def all_of(number: int) -> ir.Constant:
        return INTEGERS([number] * LANES)

    def broadcast_int(self, value: ir.Value) -> ir.Value:
        narrow = self.b.trunc(value, I32)
        one = self.b.insert_element(INTEGERS(ir.Undefined), narrow, I32(0))
        return self.b.shuffle_vector(one, INTEGERS(ir.Undefined), INTEGERS(None))

    @staticmethod
    def lane_indices() -> ir.Constant:
        return INTEGERS(list(range(LANES)))
