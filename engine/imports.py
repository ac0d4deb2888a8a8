"""How torch is imported: without what takes a third of the time and is of no use here."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing_torch() -> Iterator[None]:
    """For the import of torch, and of what comes with it.

    Nothing is garbage among hundreds of thousands of objects that live as long as the process: they
    are looked through neither while they are made nor later, also not when the process ends.
    Packages that would bring torch other devices than CPU and CUDA are not looked for.
    """
    if "torch" in sys.modules:
        yield
        return
    os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()
