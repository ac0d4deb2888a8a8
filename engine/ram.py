"""The main memory that can still be taken, as the system tells it. Imports no torch."""

from contextlib import suppress
from pathlib import Path


def available_ram() -> int:
    """Bytes that can be taken without swapping; 2**63 - 1 where the system does not say."""
    available = field(Path("/proc/meminfo"), "MemAvailable:", 1024)
    if available is None:
        return 2**63 - 1  # not Linux: the system will tell
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    with suppress(OSError, ValueError):  # absent or "max": no limit is set
        files = field(limit.with_name("memory.stat"), "inactive_file") or 0
        available = min(available, int(limit.read_text()) - int(used.read_text()) + files)
    return min(available, _data_limit_bytes())


def _data_limit_bytes() -> int:
    """What `ulimit -d` leaves this process; pages mapped from files for reading are not in it."""
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    taken = field(Path("/proc/self/status"), "VmData:", 1024)
    if limit == resource.RLIM_INFINITY or taken is None:
        return 2**63 - 1
    return limit - taken


def field(path: Path, name: str, unit_bytes: int = 1) -> int | None:
    """The number after `name` in a file of the system, in bytes; None if it is not there."""
    with suppress(OSError):
        for line in path.read_text(encoding="ascii").splitlines():
            if line.split()[:1] == [name]:
                return int(line.split()[1]) * unit_bytes
    return None
