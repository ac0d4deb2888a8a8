"""Facts about the machine a number was measured on, and the ceilings to hold it against.

Importing it imports no torch, so that a peer's memory is its own.
"""

import json
import platform
import re
import resource
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PRODUCT_SIZE = 2048


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def product_flops(repeats: int = 5) -> float:
    """float32 operations per second of one large square matrix product, the best of `repeats`."""
    import torch

    left, right = torch.randn(2, PRODUCT_SIZE, PRODUCT_SIZE)
    return 2 * PRODUCT_SIZE**3 / min(seconds(lambda: left @ right) for _ in range(repeats))


def read_bytes_per_s(repeats: int = 3) -> float:
    """Bytes per second of a matrix-vector product over 1 GiB of float32, the best of `repeats`."""
    import torch

    matrix, vector = torch.ones(2**14, 2**14), torch.ones(2**14)
    return matrix.nbytes / min(seconds(lambda: matrix @ vector) for _ in range(repeats))


def resident_bytes() -> int:
    """Memory this process holds now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def forget_peak() -> None:
    """`peak_bytes` counts from here, where the system allows it."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> int:
    """The most memory this process has held. `ru_maxrss` would begin at that of its parent."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return 1024 * int(found[1])


def facts() -> dict[str, object]:
    """What a reader needs to judge a number: processor, threads, versions, commit."""
    import torch

    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return {
        "cpu": names[0] if names else platform.processor(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or None,
    }


def print_result(name: str, rows: list[dict[str, object]]) -> None:
    """The last line of every benchmark: one JSON object."""
    print(json.dumps({"benchmark": name, "machine": facts(), "rows": rows}))
