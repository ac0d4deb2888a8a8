"""Rope of a few tokens' heads on CPUs by the JIT (jit_ir.py), else by plain.py.

Both round alike, product by product and then sum, so the bits are the same.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from kernels.jit import run
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
    from kernels.rotary import jit_ir

    out = x.new_empty(x.shape)
    args = jit_ir.KernelArgs(
        x.data_ptr(),
        cosine.data_ptr(),
        sine.data_ptr(),
        out.data_ptr(),
        *x.shape,
        cosine.shape[-1],
        x.stride(0),
    )
    run.run(jit_ir.compiled(), args, num_threads=1)
    return out
