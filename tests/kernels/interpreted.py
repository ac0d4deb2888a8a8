"""Triton kernels in tests: on the GPU where there is one, else interpreted on CPU tensors.

`tests/conftest.py` sets TRITON_INTERPRET before anything can import Triton: it is read when Triton
and when a kernel's module is imported, so it holds for the whole process.
"""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

_empty, _empty_like, _new_empty = torch.empty, torch.empty_like, torch.Tensor.new_empty


def _repair_interpreter():
    """What Triton's interpreter does unlike a GPU, or not at all with NumPy 2.

    It multiplies the bits of bfloat16 as integers, never rounds to bfloat16 upwards, and cannot
    take a tensor as the bound of a loop.
    """
    from triton import language as tl
    from triton.runtime import interpreter

    create_dot, convert = interpreter.InterpreterBuilder.create_dot, interpreter._convert_float
    patch_tensor = interpreter._patch_lang_tensor

    def dot(self, a, b, d, *options):
        a, b = (self.cast_impl(x, tl.float32) if x.dtype == tl.bfloat16 else x for x in (a, b))
        return create_dot(self, a, b, d, *options)

    def convert_float(values, source, target, rounding):
        values = np.ascontiguousarray(values)
        if (source, target) == (tl.float32, tl.bfloat16):
            return torch.from_numpy(values).bfloat16().view(torch.uint16).numpy()
        if (source, target) == (tl.bfloat16, tl.float32):
            return torch.from_numpy(values).view(torch.bfloat16).float().numpy()
        return convert(values, source, target, rounding)

    def patch_tensor_and_index(tensor, scope):
        patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter.InterpreterBuilder.create_dot = dot
    interpreter._convert_float = convert_float
    interpreter._patch_lang_tensor = patch_tensor_and_index


if DEVICE.type == "cpu":
    _repair_interpreter()


@pytest.fixture
def poisoned(monkeypatch):
    """Every `empty` tensor comes full of NaN, or of -1: what no kernel fills is seen."""

    def poison(make):
        def made(*args, **options):
            tensor = make(*args, **options)
            return tensor.fill_(float("nan") if tensor.is_floating_point() else -1)

        return made

    monkeypatch.setattr(torch, "empty", poison(_empty))
    monkeypatch.setattr(torch, "empty_like", poison(_empty_like))
    monkeypatch.setattr(torch.Tensor, "new_empty", poison(_new_empty))


def spread(x, dim, stride):
    """A copy of `x` with `stride` elements from one index of `dim` to the next, else dense.

    Linux gives memory to the pages that are written, so on the CPU addresses beyond 2^31 elements
    cost nothing.
    """
    inner = x.transpose(0, dim)[0].contiguous()
    assert stride >= inner.numel()
    num_elements = (x.shape[dim] - 1) * stride + inner.numel()
    flat = _empty(num_elements, dtype=x.dtype, device=DEVICE)
    far = flat.as_strided([x.shape[dim], *inner.shape], [stride, *inner.stride()]).transpose(0, dim)
    return far.copy_(x)


def mutated(module, folder, old, new):
    """`module` with `old` replaced by `new` in its text: a fault that a test must catch."""
    text = Path(module.__file__).read_text()
    assert text.count(old), f"{old!r} is not in {module.__name__}"
    path = Path(folder) / f"mutated_{module.__name__.rpartition('.')[2]}.py"
    path.write_text(text.replace(old, new))
    spec = spec_from_file_location(path.stem, path)
    mutant = module_from_spec(spec)
    spec.loader.exec_module(mutant)
    return mutant
