"""Functions written for LLVM, instruction by instruction, where the order of sums must be certain.

What an optimiser makes of loops differs from version to version; here it may only choose registers
and order instructions. llvmlite, the part of Numba that wraps LLVM, compiles in this process, in
some tenths of a second a function; object_cache.py can keep what came of it.
"""

import math
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import llvmlite
import llvmlite.binding as llvm
from llvmlite import ir

from kernels.jit import object_cache

LANES = 16

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
F16, F32, F64, POINTER = ir.HalfType(), ir.FloatType(), ir.DoubleType(), ir.PointerType()
VECTOR, INTEGERS = (ir.VectorType(kind, LANES) for kind in (F32, I32))

_NAME = "written"
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4  # Cody and Waite
_LEAST_EXPONENT = -87.0  # e to the power of less is no normal float32
_ENGINES: list[Any] = []  # they own the code
_NEEDED = {
    **dict.fromkeys(("x86_64", "amd64"), ("avx2", "fma", "f16c")),
    **dict.fromkeys(("aarch64", "arm64"), ("neon",)),
}


def compiled(
    write: Callable[[ir.Function, bool], None],
    *,
    unrolls: bool = True,
    arguments: Sequence[ir.Type] = (POINTER,),
    is_kept: bool = True,
) -> int:
    """The address of the function that `write` writes, which takes `arguments`, for this processor.

    `write` is told whether there are 32 registers of 16 lanes. Without `unrolls` loops stay as they
    are written: what is accumulated in each turn stays in registers. What has addresses of this
    process in it must not be kept on disk (object_cache.py). Raises RuntimeError if LLVM cannot,
    and where it would have to call functions, as the processor lacks an instruction.
    """
    features, needed = llvm.get_host_cpu_features(), _NEEDED.get(platform.machine().lower())
    if needed is None or not all(features.get(name) for name in needed):
        raise RuntimeError(f"no FMA or no float16 on this {platform.machine()}")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features.flatten(), opt=3
    )
    has_many_registers = bool(features.get("avx512f"))
    text = written(lambda function: write(function, has_many_registers), arguments)
    name = object_cache.name_of(text, str(unrolls), *_compiler(features))
    if is_kept and (known := object_cache.load(name)) is not None:
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        engine.add_object_file(llvm.ObjectFileRef.from_data(known))
    else:
        engine = llvm.create_mcjit_compiler(_optimised(text, machine, unrolls), machine)
        if is_kept:
            engine.set_object_cache(notify_func=lambda _, code: object_cache.save(name, code))
    engine.finalize_object()
    _ENGINES.append(engine)
    address: int = engine.get_function_address(_NAME)
    return address


_PASSES = "1"  # to be raised with any change of `_optimised`, or of how code is made of its result


def _compiler(features: llvm.FeatureMap) -> tuple[str, ...]:
    """All beside a function's text that decides what it is compiled to."""
    versions = (_PASSES, llvmlite.__version__, str(llvm.llvm_version_info))
    return llvm.get_default_triple(), llvm.get_host_cpu_name(), features.flatten(), *versions


def host_has(feature: str) -> bool:
    """Whether this processor has what LLVM calls `feature`."""
    return bool(llvm.get_host_cpu_features().get(feature))


def optimised(
    write: Callable[[ir.Function], None],
    machine: llvm.TargetMachine,
    *,
    unrolls: bool = True,
    arguments: Sequence[ir.Type] = (POINTER,),
) -> llvm.ModuleRef:
    return _optimised(written(write, arguments), machine, unrolls)


def written(write: Callable[[ir.Function], None], arguments: Sequence[ir.Type]) -> str:
    """A module of one function, as text."""
    module = ir.Module()
    write(ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), _NAME))
    return str(module)


def _optimised(text: str, machine: llvm.TargetMachine, unrolls: bool) -> llvm.ModuleRef:
    parsed = llvm.parse_assembly(text)
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = False
    options.loop_unrolling = unrolls
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(parsed, passes)
    return parsed


class _Address(ir.CastInstr):  # type: ignore[misc]
    """An integer as the address of a C function, which LLVM's opaque pointers do not tell."""

    def __init__(self, block: ir.Block, value: ir.Value, kind: ir.FunctionType) -> None:
        super().__init__(block, "inttoptr", value, POINTER)
        self._kind = kind

    @property
    def function_type(self) -> ir.FunctionType:
        return self._kind


def call_address(
    b: ir.IRBuilder, address: ir.Value, kind: ir.FunctionType, arguments: Sequence[ir.Value]
) -> None:
    """Calls the C function of `kind` at `address`, an integer."""
    function = _Address(b.block, address, kind)
    b._insert(function)
    b.call(function, arguments)


class FunctionBuilder:
    """A function that is being written. Its argument points to 64-bit fields of a `ctypes` struct:
    addresses, then integers."""

    def __init__(self, function: ir.Function, num_pointers: int, num_integers: int) -> None:
        self.b = b = ir.IRBuilder(function.append_basic_block())
        (argument,) = function.args
        kinds = [POINTER] * num_pointers + [I64] * num_integers
        fields = ir.LiteralStructType(kinds)
        self.places = [
            b.gep(argument, [I32(0), I32(at)], source_etype=fields) for at in range(len(kinds))
        ]
        self.fields = [b.load(at, typ=kind) for at, kind in zip(self.places, kinds, strict=True)]
        self._module, self._functions = function.module, dict[str, ir.Function]()
        self._prefetch = self.function("llvm.prefetch.p0", ir.VoidType(), [POINTER] + [I32] * 3)

    def function(self, name: str, result: ir.Type, arguments: list[ir.Type]) -> ir.Function:
        """What LLVM has an instruction for on every processor served here."""
        if name not in self._functions:
            kind = ir.FunctionType(result, arguments)
            self._functions[name] = ir.Function(self._module, kind, name)
        return self._functions[name]

    def call(self, address: ir.Value, arguments: list[ir.Value]) -> None:
        """The C function at `address`, an integer."""
        kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
        call_address(self.b, address, kind, arguments)

    @contextmanager
    def work_stealing_loop(
        self, following: ir.Value, count: ir.Value, total: ir.Value
    ) -> Iterator[tuple[ir.Value, ir.Value]]:
        """`count` of `total` pieces at a time, from the one `following` points to, until none are
        left; other threads take others. Ends the function."""
        b = self.b
        take, work, done = (b.append_basic_block() for _ in range(3))
        b.branch(take)
        b.position_at_end(take)
        first = b.atomic_rmw("add", following, count, "monotonic")
        b.cbranch(b.icmp_signed("<", first, total), work, done)
        b.position_at_end(work)
        end = b.add(first, count)
        yield first, b.select(b.icmp_signed("<", end, total), end, total)
        b.branch(take)
        b.position_at_end(done)
        b.ret_void()

    @contextmanager
    def loop(self, start: ir.Value, stop: ir.Value, step: int) -> Iterator[ir.Value]:
        b = self.b
        head, body, after = (b.append_basic_block() for _ in range(3))
        before = b.block
        b.branch(head)
        b.position_at_end(head)
        index = b.phi(I64)
        index.add_incoming(start, before)
        b.cbranch(b.icmp_signed("<", index, stop), body, after)
        b.position_at_end(body)
        yield index
        index.add_incoming(b.add(index, I64(step)), b.block)
        b.branch(head)
        b.position_at_end(after)

    def columns(self, width: ir.Value) -> Iterator[tuple[ir.Value, int]]:
        """The starts of what is done to 0 .. `width` - 1, LANES elements or (0) one at a time."""
        whole = self.aligned_end(I64(0), width, LANES)
        for start, stop, count in ((I64(0), whole, LANES), (whole, width, 0)):
            with self.loop(start, stop, count or 1) as at:
                yield at, count

    def real(self, field: int) -> ir.Value:
        """A field of 64 bits that is not an integer but a `c_double`, as float32."""
        return self.b.fptrunc(self.b.load(self.places[field], typ=F64), F32)

    def aligned_end(self, start: ir.Value, stop: ir.Value, step: int) -> ir.Value:
        """The last of `start`, `start` + `step`, ... that is not beyond `stop`."""
        return self.b.sub(stop, self.b.srem(self.b.sub(stop, start), I64(step)))

    def smaller(self, left: ir.Value, right: ir.Value) -> ir.Value:
        """Of two integers."""
        return self.b.select(self.b.icmp_signed("<", left, right), left, right)

    def local(self, value: ir.Value) -> ir.Value:
        """A variable; it ends in a register."""
        with self.b.goto_entry_block():
            place = self.b.alloca(value.type)
        self.b.store(value, place)
        return place

    def at(self, base: ir.Value, kind: ir.Type, index: ir.Value) -> ir.Value:
        return self.b.gep(base, [index], source_etype=kind)

    def load(self, base: ir.Value, kind: ir.Type, index: ir.Value, count: int = 0) -> ir.Value:
        """One element, or a vector of `count`, from any address."""
        typ = ir.VectorType(kind, count) if count else kind
        return self.b.load(self.at(base, kind, index), typ=typ, align=1)

    def prefetch(self, base: ir.Value, kind: ir.Type, index: ir.Value) -> None:
        """Will be read soon; may lie behind the end of what there is."""
        read, near, data = I32(0), I32(3), I32(1)
        self.b.call(self._prefetch, [self.at(base, kind, index), read, near, data])

    def store(self, value: ir.Value, base: ir.Value, index: ir.Value) -> None:
        self.b.store(value, self.at(base, F32, index), align=1)

    def fma(self, left: ir.Value, right: ir.Value, total: ir.Value) -> ir.Value:
        """left right + total, rounded once."""
        kind = left.type
        suffix = "f32" if kind == F32 else f"v{kind.count}f32"
        return self.b.call(
            self.function(f"llvm.fma.{suffix}", kind, [kind] * 3), [left, right, total]
        )

    def fma_into(self, place: ir.Value, left: ir.Value, right: ir.Value) -> None:
        self.b.store(self.fma(left, right, self.b.load(place, typ=left.type)), place)

    def broadcast(self, value: ir.Value, count: int = LANES) -> ir.Value:
        """`value` in every one of `count` lanes."""
        nothing = ir.VectorType(value.type, count)(ir.Undefined)
        one = self.b.insert_element(nothing, value, I32(0))
        return self.b.shuffle_vector(one, nothing, ir.VectorType(I32, count)(None))

    def broadcast_if_vector(self, value: ir.Value, count: int) -> ir.Value:
        """`value` to compute with vectors (`count` > 0) or with scalars."""
        return self.broadcast(value) if count else value

    def broadcast_half(self, base: ir.Value, index: ir.Value) -> ir.Value:
        """One float16 in every lane of a float32 vector.

        As an integer until it is spread: a float16 is loaded into a part of a register on x86, so
        that each load waits for what the register was used for before.
        """
        b, vector = self.b, ir.VectorType(I16, LANES)
        one = b.insert_element(vector(ir.Undefined), self.load(base, I16, index), I32(0))
        spread = b.shuffle_vector(one, vector(ir.Undefined), INTEGERS(None))
        return b.fpext(b.bitcast(spread, ir.VectorType(F16, LANES)), VECTOR)

    def sqrt(self, value: ir.Value) -> ir.Value:
        """The square root of a scalar."""
        return self.b.call(self.function("llvm.sqrt.f32", F32, [F32]), [value])

    def sigmoid(self, x: ir.Value) -> ir.Value:
        """1 / (1 + e^-x) of each lane."""
        b, one = self.b, VECTOR([1.0] * LANES)
        is_positive = b.fcmp_ordered(">=", x, VECTOR(None))
        power = self.exponential(b.select(is_positive, b.fneg(x), x))
        return b.fdiv(b.select(is_positive, one, power), b.fadd(one, power))

    def silu(self, x: ir.Value) -> ir.Value:
        """x sigmoid(x) of a vector, or of a scalar."""
        if x.type == VECTOR:
            return self.b.fmul(x, self.sigmoid(x))
        return self.b.extract_element(self.silu(self.broadcast(x)), I32(0))

    def exponential(self, x: ir.Value) -> ir.Value:
        """e^x of x <= 0 to about one unit in the last place; 0 where it is no normal number."""
        b = self.b

        def all_lanes(number: float) -> ir.Constant:
            return VECTOR([number] * LANES)

        is_normal = b.fcmp_unordered(">=", x, all_lanes(_LEAST_EXPONENT))  # NaN stays
        x = b.select(is_normal, x, all_lanes(_LEAST_EXPONENT))
        steps = self.nearest(b.fmul(x, all_lanes(1 / math.log(2))))
        rest = self.fma(steps, all_lanes(-_LN2_HIGH), x)
        rest = self.fma(steps, all_lanes(-_LN2_LOW), rest)
        power: ir.Value = all_lanes(1 / math.factorial(7))
        for degree in range(6, -1, -1):
            power = self.fma(power, rest, all_lanes(1 / math.factorial(degree)))
        bits = b.add(b.fptosi(steps, INTEGERS), INTEGERS([127] * LANES))
        two = b.bitcast(b.shl(bits, INTEGERS([23] * LANES)), VECTOR)
        return b.select(is_normal, b.fmul(power, two), VECTOR(None))

    def nearest(self, value: ir.Value) -> ir.Value:
        """Rounded to integers, by adding and taking away what leaves no room for fractions."""
        large = VECTOR([1.5 * 2**23] * LANES)
        return self.b.fsub(self.b.fadd(value, large), large)

    def array(self, count: ir.Value) -> ir.Value:
        """Room for `count` elements on the stack; called at the function's beginning."""
        typed = self.b.alloca(F32, count)  # others can be stored to than what it was made for
        return self.b.inttoptr(self.b.ptrtoint(typed, I64), POINTER)

    def lane_sum(self, value: ir.Value) -> ir.Value:
        return self.horizontal_reduce(value, self.b.fadd)

    def horizontal_reduce(
        self, value: ir.Value, join: Callable[[ir.Value, ir.Value], ir.Value]
    ) -> ir.Value:
        """A vector's first half of lanes joined with its second, until there is one element."""
        b, count = self.b, value.type.count
        while count > 1:
            count //= 2
            low, high = (
                ir.VectorType(I32, count)(list(range(start, start + count))) for start in (0, count)
            )
            nothing = value.type(ir.Undefined)
            value = join(
                b.shuffle_vector(value, nothing, low), b.shuffle_vector(value, nothing, high)
            )
        return b.extract_element(value, I32(0))
