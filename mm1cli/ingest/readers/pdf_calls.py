"""Functions of pdfium that are called once for each letter or object of a page.

pypdfium2's make objects of all they take and give, which costs more than what they do. These take
addresses, and hold the interpreter's lock, as none of them takes long.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

ADDRESS, INT = ctypes.c_void_p, ctypes.c_int


@cache
def function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:  # noqa: ANN401
    """The function of that name. `result` and `arguments` are ADDRESS or INT."""
    import pypdfium2.raw as c

    return ctypes.PYFUNCTYPE(result, *arguments)(_address(getattr(c, name)))


def address_of(handle: Any) -> int:  # noqa: ANN401
    """What one of pypdfium2's handles points to."""
    return ctypes.cast(handle, ctypes.c_void_p).value or 0


def _address(called: Any) -> int:  # noqa: ANN401
    return ctypes.cast(called, ctypes.c_void_p).value or 0
