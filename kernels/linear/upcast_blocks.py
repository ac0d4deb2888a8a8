"""Matmuls with weights kept in a narrower float than x: bf16 weights, float32 x.

A block of outputs at a time is widened into one small buffer and multiplied while it is in the
cache: a whole expert of MiniMax-M1 widened into fresh memory costs seven times its matmul at M = 1.
"""

from torch import Tensor

from kernels.linear import dense

_BLOCK_ELEMENTS = 2**20  # as kernels/linear/dequantize_blocks.py, for the same reason
# Matrix libraries compute outputs in panels of up to so many, and the last ones in another order:
# measured with MKL, 1,497 or 170 rows at a time differ from all at once, multiples of 16 do not.
_PANEL_ROWS = 64
_EVEN_ROWS = 16


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x [M, I] with weight [O, I] of another dtype: the bits of a matmul with the widened one."""
    num_out, width = weight.shape
    out = x.new_empty(len(x), num_out)
    num_rows = max(1, _BLOCK_ELEMENTS // width // _PANEL_ROWS) * _PANEL_ROWS
    if num_rows >= num_out or num_out % _EVEN_ROWS:
        num_rows = num_out
    wide = x.new_empty(num_rows, width)
    for start in range(0, num_out, num_rows):
        narrow = weight[start : start + num_rows]
        block = wide[: len(narrow)].copy_(narrow)
        out[:, start : start + num_rows] = dense.linear(x, block)
    return out
