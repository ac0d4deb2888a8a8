"""JIT of matmuls of small M with GGML's blocks and x as int8: small_m_ir.py with products of bytes.

Half the bytes of x, no codes to widen, and 32 products in an instruction.
"""

from collections.abc import Sequence
from functools import cache

from llvmlite import ir

from kernels.ggml.block_type import BlockType
from kernels.jit import builder
from kernels.jit.builder import I8
from kernels.linear.ggml import bytes_ir, small_m_ir
from kernels.linear.ggml.unpack_ir import PART


@cache
def compiled(kind: BlockType) -> int:
    has_vnni = bytes_ir.has_one_instruction()
    return builder.compiled(lambda function, has_many: write(function, kind, has_many, has_vnni))


def write(function: ir.Function, kind: BlockType, has_many_registers: bool, has_vnni: bool) -> None:
    _ByteGemm(function, kind, has_vnni).write(small_m_ir.tiles_of(has_many_registers))


class _ByteGemm(small_m_ir.Gemm[ir.Value]):
    x_type = I8

    def __init__(self, function: ir.Function, kind: BlockType, has_vnni: bool) -> None:
        super().__init__(function, kind, bytes_ir.format_of(kind))
        self.byte_format, self.has_vnni = bytes_ir.BYTE_FORMATS[kind], has_vnni

    def codes(self, row: ir.Value, run: ir.Value, at: int) -> ir.Value:
        return self.blocks.codes(row, run, at, self.byte_format.codes)

    def x_of_part(self, x: ir.Value, column: ir.Value) -> Sequence[ir.Value]:
        return [self.load(x, I8, column, PART)]

    def dot(self, codes: ir.Value, x: Sequence[ir.Value]) -> ir.Value:
        is_signed = not self.byte_format.largest
        return bytes_ir.quadruples(self, codes, x[0], has_vnni=self.has_vnni, is_signed=is_signed)
