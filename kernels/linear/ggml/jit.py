"""Matmuls with GGML's blocks on CPUs by the JIT, which compiles at the first matmul.

x is rounded to int16 once a call (pack_ir.py), for all parts of a stack. Small M reads the blocks
as fast as the memory gives them (small_m_ir.py), all parts in one call of what is prepared for the
weight (stack_ir.py); large M unpacks some outputs into the cache for all rows (large_m_ir.py). In
either what a row gives does not depend, bit by bit, on the rows beside it or on the number of
threads.

Whether that code can be made, is right and batch-invariant is probed, not assumed. Where it is not,
dequantize_blocks.py serves.
"""

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from weakref import ref

import torch
from torch import Tensor

from kernels import gradients
from kernels.ggml import BlockType, GgmlWeight
from kernels.ggml.random import random_weight
from kernels.jit import run
from kernels.jit.program import PARALLEL, ROWS, THREADS, Call, Program, Slot, Value
from kernels.linear import dequantize_blocks, naive
from kernels.linear.ggml.row_form import RowForm
from kernels.quantized import BlockWeight, StackedWeight, Weight

if TYPE_CHECKING:
    from kernels.linear.ggml import stack_ir

A = TypeVar("A", int, Slot)  # an address

SMALL_M = 24
_CHUNK_BYTES = 2**15  # of weights that a thread takes at a time, at small M
_WORKSPACE_BYTES = 3 * 2**16  # of unpacked weights in a thread's cache, at large M
_LANES = 16  # outputs that are unpacked side by side
_OUTS = 4  # outputs that are computed together at small M
_PARALLEL_ELEMENTS = 2**15  # of x, from which on more threads than one pack it, at large M
_MOST_COLUMNS = 2**17  # whose scales are on each thread's stack
_BEYOND_BYTES = 32  # small_m_ir.py reads scales of x in vectors
_TOLERANCE = 2.0**-13
_INT8_TOLERANCE = 2.0**-18  # beside the definition, which rounds x as well


class PackedRows(NamedTuple):
    """`x` [M, I] rounded to integers, in one piece of memory: what it is, and where."""

    memory: Tensor
    num_rows: int
    width: int
    form: RowForm

    @property
    def addresses(self) -> tuple[int, int, int, int]:
        """Of codes, scales, sums of 32 columns and sums of 16: see `pack_ir.PackArgs`."""
        return _addresses(self.memory.data_ptr(), self.num_rows, self.width, self.form)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Of a weight, what is the same in every call."""

    blocks: tuple[tuple[GgmlWeight, int], ...]  # and the first of their columns in the result
    others: tuple[tuple[Weight, int, int], ...]  # served elsewhere: first column, and behind it
    parts: "ctypes.Array[stack_ir.Part]"  # of each of `blocks`
    shape: tuple[int, int]
    form: RowForm  # of x at small M


_PREPARED: dict[int, tuple["ref[BlockWeight]", Prepared]] = {}  # by id, while the weight lives


def linear(x: Tensor, weight: GgmlWeight) -> Tensor:
    if not supports(x, weight):
        return dequantize_blocks.linear(x, weight)
    out = _matmul(x, weight)
    return out if x.dtype == torch.float32 else out.to(x.dtype)


def supports(x: Tensor, weight: GgmlWeight) -> bool:
    """Whether x [M, I] is on a CPU, and nobody wants a gradient."""
    return x.is_cpu and x.shape[0] > 0 and not gradients.wanted(x) and supports_weight(weight)


def supports_weight(weight: GgmlWeight) -> bool:
    packed, kind = weight.packed, weight.type
    is_known = packed.is_cpu and packed.is_contiguous() and packed.dim() == 2
    most_bytes = _MOST_COLUMNS // kind.elements * kind.num_bytes
    if not is_known or packed.shape[1] > most_bytes:
        return False
    return (weight.has_int8_rows and multiplies_bytes(kind)) or is_usable(kind)


def pack(x: Tensor, form: RowForm = RowForm.INT16) -> PackedRows:
    """`x` [M, I], I a multiple of 32."""
    from kernels.linear.ggml import pack_ir

    rows = (x if x.dtype == torch.float32 else x.float()).contiguous()
    packed = _room(len(x), x.shape[1], form)
    args = pack_ir.PackArgs(rows.data_ptr(), *packed.addresses, *rows.shape, 1, 0)
    num_threads = None if rows.numel() >= _PARALLEL_ELEMENTS else 1
    run.run(pack_ir.compiled(form), args, num_threads)
    return packed


def _room(num_rows: int, width: int, form: RowForm) -> PackedRows:
    num_bytes = num_rows * _row_bytes(width, form) + _BEYOND_BYTES
    return PackedRows(torch.empty(num_bytes, dtype=torch.uint8), num_rows, width, form)


def _row_bytes(width: int, form: RowForm) -> int:
    return form.num_bytes * width + width // 2


def _addresses(codes: A, num_rows: int, width: int, form: RowForm) -> tuple[A, A, A, A]:
    scales = codes + form.num_bytes * num_rows * width
    sums = scales + num_rows * width // 8
    return codes, scales, sums, sums + num_rows * width // 8


@run.probed
def is_usable(kind: BlockType) -> Iterator[run.Check]:
    """Whether weights of `kind` can be multiplied with int16, at small M and at large."""
    weight = _probe(kind)
    for num_rows in (7, SMALL_M + 5):
        x = _probe_rows(num_rows, weight)
        got = _matmul(x, weight)
        yield got, x.double() @ weight.dequantize(torch.float64).T, _TOLERANCE
        if num_rows <= SMALL_M:
            yield got, torch.cat([_matmul(row[None], weight) for row in x]), 0.0


@run.probed
def multiplies_bytes(kind: BlockType) -> Iterator[run.Check]:
    """Whether weights of `kind` can be multiplied with int8, at small M and at large."""
    from kernels.jit import builder  # loads LLVM

    if not builder.host_has("avx2"):  # LLVM aborts at another processor's instructions
        raise RuntimeError("no products of bytes on this processor")
    weight = replace(_probe(kind), has_int8_rows=True)
    found = _prepare((weight,), RowForm.INT8)
    for num_rows in (7, SMALL_M + 5):
        x = _probe_rows(num_rows, weight)
        got = _multiply(x, found)
        yield got, naive.linear(x, weight), _INT8_TOLERANCE
        if num_rows <= SMALL_M:
            yield got, torch.cat([_multiply(row[None], found) for row in x]), 0.0


def _probe(kind: BlockType) -> GgmlWeight:
    width = 512 if kind.elements == 256 else 352
    return random_weight(kind, _LANES + 5, width, torch.Generator().manual_seed(0))


def _probe_rows(num_rows: int, weight: GgmlWeight) -> Tensor:
    return torch.randn(num_rows, weight.shape[1], generator=torch.Generator().manual_seed(1))


def _matmul(x: Tensor, weight: GgmlWeight) -> Tensor:
    return _multiply(x, prepared(weight))


def stacked(x: Tensor, weight: StackedWeight, of_other: Callable[[Weight], Tensor]) -> Tensor:
    """`x` [M, I] with each of the parts, one result beside the other: [M, O] float32.

    x is packed once for all that are blocks; `of_other` multiplies what is served elsewhere.
    """
    are_some_mine = any(isinstance(p, GgmlWeight) and supports_weight(p) for p in weight.parts)
    if not (x.is_cpu and x.shape[0] > 0 and are_some_mine):
        return torch.cat([of_other(part).float() for part in weight.parts], dim=1)
    found = prepared(weight)
    out = _multiply(x, found)
    for part, first, end in found.others:
        out[:, first:end] = of_other(part)
    return out


def prepared(weight: BlockWeight) -> Prepared:
    """What is made for `weight` at its first matmul; it lives no longer than the weight does."""
    name, forget = id(weight), _PREPARED.pop
    known = _PREPARED.get(name)
    if known is not None and known[0]() is weight:
        return known[1]
    parts = (weight,) if isinstance(weight, GgmlWeight) else weight.parts
    made = _prepare(parts, _form_of(parts))
    _PREPARED[name] = ref(weight, lambda _: forget(name, None)), made
    return made


def _form_of(weights: tuple[Weight, ...]) -> RowForm:
    """What x is rounded to for all of them at small M. Raises ValueError if they differ in it."""
    blocks = [weight for weight in weights if isinstance(weight, GgmlWeight)]
    if len({weight.has_int8_rows for weight in blocks}) > 1:
        raise ValueError("stacked weights: some with rows in int8, some not")
    if not blocks[0].has_int8_rows:
        return RowForm.INT16
    has_bytes = all(multiplies_bytes(weight.type) for weight in blocks)
    return RowForm.INT8 if has_bytes else RowForm.INT8_IN_INT16


def _prepare(weights: tuple[Weight, ...], form: RowForm) -> Prepared:
    from kernels.linear.ggml import small_m_int8_ir, small_m_ir, stack_ir
    from kernels.linear.ggml.unpack_ir import FORMATS

    module = small_m_int8_ir if form is RowForm.INT8 else small_m_ir
    blocks, others, parts, start = [], [], [], 0
    for weight in weights:
        num_out, width = weight.shape
        if isinstance(weight, GgmlWeight) and (len(weights) == 1 or supports_weight(weight)):
            row_bytes = weight.packed.shape[1]
            part = stack_ir.Part(
                module.compiled(weight.type),
                FORMATS[weight.type].group == 16,
                weight.packed.data_ptr(),
                num_out,
                _OUTS * max(1, _CHUNK_BYTES // (_OUTS * row_bytes)),
                4 * start,
            )
            # Not the weight itself, which would keep it alive.
            blocks.append((replace(weight), start))
            parts.append(part)
        else:
            others.append((weight, start, start + num_out))
        start += num_out
    array = (stack_ir.Part * len(parts))(*parts)
    return Prepared(tuple(blocks), tuple(others), array, (start, width), form)


def _multiply(x: Tensor, weight: Prepared) -> Tensor:
    """With all that are blocks; what the others get is not set."""
    num_rows, width = x.shape
    if width != weight.shape[1]:
        raise ValueError(f"linear: rows of {width} elements, a weight of {[*weight.shape]}")
    out = torch.empty(num_rows, weight.shape[0])
    if num_rows <= SMALL_M:
        _small_m(x, weight, out)
    else:
        packed: dict[RowForm, PackedRows] = {}
        for blocks, first in weight.blocks:
            form = _large_m_form(blocks.type, weight.form)
            if form not in packed:
                packed[form] = pack(x, form)
            _large_m(packed[form], blocks, out.data_ptr() + 4 * first, out.shape[1])
    return out


def _large_m_form(kind: BlockType, form: RowForm) -> RowForm:
    """Where signed codes are multiplied as bytes each product costs more than one of int16 does."""
    from kernels.linear.ggml import bytes_ir

    is_signed = form is RowForm.INT8 and not bytes_ir.BYTE_FORMATS[kind].largest
    return RowForm.INT8_IN_INT16 if is_signed else form


def _small_m(x: Tensor, weight: Prepared, out: Tensor) -> None:
    rows = (x if x.dtype == torch.float32 else x.float()).contiguous()
    packed = _room(len(x), x.shape[1], weight.form)
    num_threads = torch.get_num_threads()
    parallel = run.parallel_address(num_threads) if num_threads > 1 else 0
    place, team = (out.data_ptr(), len(x), out.shape[1]), (num_threads, parallel)
    _stack_call(rows.data_ptr(), weight, place, packed.addresses, team).run()


def linear_call(program: Program, x: Slot, weight: BlockWeight, out: Slot, out_width: int) -> Call:
    """`linear` of the rows of `program` with blocks that this module supports, into columns of rows
    of `out_width`."""
    found = prepared(weight)
    width = found.shape[1]
    room = program.room(_row_bytes(width, found.form) + _BEYOND_BYTES)
    packed = _addresses(room, run.SMALL_M, width, found.form)
    return _stack_call(x, found, (out, ROWS, out_width), packed, (THREADS, PARALLEL))


def are_blocks(parts: tuple[Weight, ...]) -> bool:
    """Whether all of them are multiplied here."""
    return all(isinstance(part, GgmlWeight) and supports_weight(part) for part in parts)


def _stack_call(
    x: Value,
    weight: Prepared,
    out: tuple[Value, Value, int],
    packed: tuple[Value, Value, Value, Value],
    team: tuple[Value, Value],
) -> Call:
    """Where `out` is, how many rows and how wide; how many threads, and what runs them."""
    call, (place, num_rows, out_width) = _call_of(weight.form), out
    parts = (ctypes.addressof(weight.parts), len(weight.parts))
    rows = (num_rows, weight.shape[1], num_rows, 0)
    functions = (call.pack, call.team)
    values = (x, *packed, *rows, *parts, place, out_width, *team, *functions)
    return Call(call.stack, call.arguments, values)


class _Call(NamedTuple):
    """What small M is called with: functions of stack_ir.py and pack_ir.py."""

    arguments: "type[stack_ir.StackArgs]"
    stack: int
    pack: int
    team: int


@cache
def _call_of(form: RowForm) -> _Call:
    from kernels.linear.ggml import pack_ir, stack_ir

    compiled = stack_ir.compiled(), pack_ir.compiled(form), stack_ir.compiled_team()
    return _Call(stack_ir.StackArgs, *compiled)


def _large_m(rows: PackedRows, weight: GgmlWeight, address: int, out_stride: int) -> None:
    from kernels.linear.ggml import large_m_int8_ir, large_m_ir
    from kernels.linear.ggml.unpack_ir import FORMATS

    module = large_m_int8_ir if rows.form is RowForm.INT8 else large_m_ir
    codes, scales, sums, half_sums = rows.addresses
    num_threads, num_out = torch.get_num_threads(), weight.packed.shape[0]
    code_bytes = rows.form.num_bytes
    most = _WORKSPACE_BYTES // large_m_ir.workspace_bytes(rows.width, _LANES, code_bytes)
    each = -(-num_out // (2 * num_threads * _LANES))  # so that there is work for all
    chunk = _LANES * max(1, min(most, each))
    num_bytes = large_m_ir.workspace_bytes(rows.width, chunk, code_bytes)
    workspace = torch.empty(num_threads * num_bytes, dtype=torch.uint8)
    args = large_m_ir.GemmArgs(
        codes,
        scales,
        half_sums if FORMATS[weight.type].group == 16 else sums,
        weight.packed.data_ptr(),
        address,
        workspace.data_ptr(),
        rows.num_rows,
        num_out,
        rows.width,
        out_stride,
        chunk,
        num_bytes,
        0,
        0,
    )
    run.run(module.compiled(weight.type), args)
