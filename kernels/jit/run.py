"""Runs what the JIT made, on threads of its own (team.py) or, where there can be none, on torch's.

torch's threads must not spin while the others work, or they hold the cores: kernels/__init__.py
tells OpenMP so.
"""

import ctypes
from collections.abc import Callable, Iterator
from functools import cache, lru_cache, wraps
from typing import Any

import torch
from torch import Tensor

from kernels import gradients

Check = tuple[Tensor, Tensor, float]  # result, expected, relative RMS error below which it is right

SMALL_M = 16  # from there on torch's operations cost little beside the matmuls
_MAX_ELEMENTS = 2**15  # of a token; of more, or of sequences side by side, threads make short work
# What compiling raises where llvmlite is missing or another one than is known here, where the
# processor lacks an instruction, and where LLVM cannot.
_UNAVAILABLE = (ImportError, OSError, AttributeError, TypeError, RuntimeError)


def run(address: int, argument: ctypes.Structure, num_threads: int | None = None) -> None:
    """Calls the C function at `address` once on each thread, as many as torch has unless it is
    said, and waits for all.

    It gets the address of `argument` and must divide the work by itself: there may be fewer threads
    than torch has, or just one.
    """
    if num_threads is None:
        num_threads = torch.get_num_threads()
    if num_threads > 1 and (parallel := parallel_address(num_threads)):
        _parallel(parallel)(address, ctypes.addressof(argument), num_threads, 0)
    else:
        _function(address)(ctypes.addressof(argument))


@lru_cache(maxsize=4)
def parallel_address(num_threads: int) -> int:
    """Of a function that calls another on up to `num_threads` threads and waits, with the arguments
    of GOMP_parallel: the team's, or OpenMP's own; 0 if there is none."""
    from kernels.jit import team

    if (found := team.team()) is not None:
        found.grow(num_threads - 1)
        return found.address
    return _openmp()


def supports(x: Tensor, *others: Tensor) -> bool:
    """Whether `x` [T, ...] is of few tokens, float32 and on a CPU, the others are float32 and lie
    together, and nobody wants a gradient: what the JIT asks for."""
    return (
        x.is_cpu
        and x.dtype == torch.float32
        and x.dim() > 1
        and 0 < x.shape[0] <= SMALL_M
        and x.numel() <= SMALL_M * _MAX_ELEMENTS
        and all(other.dtype == torch.float32 and other.is_contiguous() for other in others)
        and not gradients.wanted(x, *others)
    )


def probed(checks: Callable[..., Iterator[Check]]) -> Callable[..., bool]:
    """Whether all of `checks` can be made and hold, found out once for each argument.

    Where the error allowed is 0, the bits must be the same.
    """

    @cache
    @wraps(checks)
    def is_usable(*args: object) -> bool:
        try:
            return all(_holds(*check) for check in checks(*args))
        except _UNAVAILABLE:
            return False

    return is_usable


def _holds(result: Tensor, expected: Tensor, most_error: float) -> bool:
    if not most_error:
        return torch.equal(result, expected)
    return bool((result.double() - expected).norm() < most_error * expected.norm())


@cache
def _function(address: int) -> Any:  # noqa: ANN401
    return _KIND(address)


_KIND = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@cache
def _parallel(address: int) -> Any:  # noqa: ANN401
    arguments = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    return ctypes.CFUNCTYPE(None, *arguments)(address)


def _openmp() -> int:
    """GOMP_parallel of the library torch is linked to; LLVM's and Intel's have it, too."""
    try:
        found = ctypes.CDLL(torch._C.__file__).GOMP_parallel
    except (AttributeError, OSError):
        return 0
    return ctypes.cast(found, ctypes.c_void_p).value or 0
