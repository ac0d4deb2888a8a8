"""How many cores this process may use, as the system tells it. Imports no torch.

Affinity alone is not enough: a container's share of a large machine is often a quota of time, and
with a thread for each of its cores it is stopped for most of each period while threads wait for
each other.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Those of the affinity mask, or as many as the quota pays for, rounded up; at least one."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min([cores, *_paid_cores(_CGROUPS, _OWN)]))


def _paid_cores(root: Path, own: Path) -> Iterator[int]:
    """What each group this process is in may use; a container sees its own group as the root."""
    with suppress(OSError, ValueError):
        for line in own.read_text(encoding="utf-8", errors="replace").splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0" and not controllers:
                folders, read = [root, root / "unified"], _quota_v2
            elif "cpu" in controllers.split(","):
                folders, read = [root / controllers, root / "cpu"], _quota_v1
            else:
                continue
            for folder in folders:
                for group in _with_parents(path):
                    with suppress(OSError, ValueError, ZeroDivisionError):
                        quota, period = read(folder / group)
                        if quota > 0:
                            yield -(-quota // period)


def _with_parents(path: str) -> list[PurePosixPath]:
    """Relative to the root, which is the last."""
    inner = PurePosixPath(path.lstrip("/"))
    return [PurePosixPath()] if ".." in inner.parts else [inner, *inner.parents]


def _quota_v2(group: Path) -> tuple[int, int]:
    quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
    return int(quota), int(period)  # ValueError for "max"


def _quota_v1(group: Path) -> tuple[int, int]:
    quota = (group / "cpu.cfs_quota_us").read_text(encoding="ascii")
    return int(quota), int((group / "cpu.cfs_period_us").read_text(encoding="ascii"))
