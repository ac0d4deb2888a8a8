"""What measuring files needs: bytes read once, a cold disk, and the store's share of a build."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.store.writer import Writer


@dataclass
class Spent:
    seconds: float = 0.0


@contextmanager
def saving() -> Iterator[Spent]:
    """Counts the time that builds inside spend on saving, fsyncs included."""
    spent = Spent()

    def timed(function: Callable[[Writer], None]) -> Callable[[Writer], None]:
        def call(writer: Writer) -> None:
            began = time.perf_counter()
            function(writer)
            spent.seconds += time.perf_counter() - began

        return call

    originals = {name: getattr(Writer, name) for name in ("after_chunk", "finish")}
    for name, function in originals.items():
        setattr(Writer, name, timed(function))
    try:
        yield spent
    finally:
        for name, function in originals.items():
            setattr(Writer, name, function)


def forget(path: Path) -> bool:
    """Asks the system to forget what it has read of the files in `path`; False where it cannot."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
    return True


def read_all(folder: Path) -> int:
    """Reads every byte once, as plainly as can be."""
    total = 0
    buffer = bytearray(1 << 22)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while count := file.readinto(buffer):
                    total += count
    return total
