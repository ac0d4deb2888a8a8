"""Memory that can still be taken, as the system tells it, and how what is freed goes back."""

import ctypes
import os
import sys
from contextlib import suppress

import torch

from engine.ram import available_ram
from engine.ram import field as field

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # glibc's malloc.h
_LARGE_BYTES, _LARGE_WHERE_SCARCE = 2**20, 2**17
_KEPT_PRODUCTS = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
_MANY_KEPT, _FEW_KEPT = "64", "16"


def trim_malloc(*, is_scarce: bool = False) -> None:
    """Makes the C library return large tensors to the system when they are freed.

    Otherwise it keeps them, once some were freed, up to 32 MB each, and what a run takes depends on
    how they happen to lie: measured up to a quarter more than is alive. What one thread makes and
    another drops would also fill a heap each with holes. Where memory `is_scarce` the states of a
    small context are large, too. Only glibc has the switches.
    """
    # oneDNN compiles a product for each M and keeps up to 1,024, 0.1 to 0.5 MB each.
    # It looks at this when the first is kept.
    if os.environ.get(_KEPT_PRODUCTS, _MANY_KEPT) == _MANY_KEPT:
        os.environ[_KEPT_PRODUCTS] = _FEW_KEPT if is_scarce else _MANY_KEPT
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            allocator = ctypes.CDLL(None)
            allocator.mallopt(_M_ARENA_MAX, 1)
            large_bytes = _LARGE_WHERE_SCARCE if is_scarce else _LARGE_BYTES
            allocator.mallopt(_M_MMAP_THRESHOLD, large_bytes)


def physical_bytes() -> int:
    """Memory of this machine, whoever uses it."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def available_bytes(device: torch.device) -> int:
    """Memory that can still be taken without swapping, as the system tells it."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_ram()
