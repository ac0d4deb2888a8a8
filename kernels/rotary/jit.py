"""Rope of a few tokens' heads on CPUs by the JIT (jit_ir.py), else by plain.py.

Both round alike, product by product and then sum, so the bits are the same.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from kernels.jit import run
from kernels.jit.program import Call, Value
from kernels.rotary import plain


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    if _has_form(x, cosine) and run.supports(x, cosine, sine) and is_usable():
        return _rotate(x, cosine, sine)
    return plain.rotate(x, cosine, sine)


def _has_form(x: Tensor, cosine: Tensor) -> bool:
    """Whether `x` is [T, H, D] with heads that lie together, and tokens have one angle each."""
    return x.dim() == 3 and x.stride()[1:] == (x.shape[2], 1) and cosine.shape[:2] == (len(x), 1)


@run.probed
def is_usable() -> Iterator[run.Check]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 50, generator=generator)
    cosine, sine = torch.randn(2, 2, 1, 18, generator=generator)
    yield _rotate(x[:, :2], cosine, sine), plain.rotate(x[:, :2], cosine, sine), 0.0


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    out = x.new_empty(x.shape)
    turns = cosine.data_ptr(), sine.data_ptr(), cosine.shape[-1]
    num_tokens, num_heads, head_dim = x.shape
    shape = (num_tokens, num_heads, head_dim)
    rotate_call(x.data_ptr(), x.stride(0), turns, None, shape, out.data_ptr()).run()
    return out


def rotate_call(
    x: Value,
    stride: int,
    turns: tuple[Value, Value, int],
    bias: Value,
    shape: tuple[Value, int, int],
    out: Value,
    out_strides: Sequence[Value] | None = None,
) -> Call:
    """`rotate` of `shape` [T, H, D], by cosines and sines [T, R / 2], R / 2 given as well: 0 for a
    copy. Strides are of tokens; of `out` and its heads where those do not lie together."""
    from kernels.rotary import jit_ir

    *_, num_heads, head_dim = shape
    cosine, sine, half = turns
    out_strides = out_strides or (num_heads * head_dim, head_dim)
    values = (x, cosine, sine, bias, out, *shape, half, stride, *out_strides)
    return Call(jit_ir.compiled(bias is not None), jit_ir.KernelArgs, values)
