"""Takes from this process, for good, what a reader never needs: files, network, programs, others.

Linux: landlock leaves reading of the interpreter and its libraries, seccomp forbids sockets, other
programs, other processes and higher limits. Elsewhere limits and an empty environment are all there
is. What the kernel has is used, and `in_force` says what that is. Called before any thread starts.
"""

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path

if sys.platform != "win32":
    import resource


class Trust(Enum):
    """READER opens nothing. OCR starts programs that are installed, which read and write files;
    CONVERT those that open a socket of their own, too, and read only what the system installed."""

    READER = "reader"
    OCR = "ocr"
    CONVERT = "convert"


def confine(trust: Trust) -> None:
    """Raises nothing: what the system does not have is not in force."""
    if sys.platform != "win32":
        _limit_hard(trust)
    if sys.platform.startswith("linux") and _prctl(_NO_NEW_PRIVS, 1):
        _landlock(trust)
        _seccomp(trust)


def forbid_processes() -> None:
    """No process, and no thread, is started from here on; for whoever has those it needs."""
    if sys.platform != "win32":
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def in_force() -> list[str]:
    """What `confine` would find here, in words."""
    found = ["limits of memory, CPU time and files", "an empty environment"]
    if sys.platform == "win32":
        return ["a time limit", "an empty environment"]
    if sys.platform.startswith("linux"):
        if (abi := _landlock_abi()) > 0:
            found.append(f"landlock {abi}: no file but the interpreter's")
        if _machine() is not None:
            found.append("seccomp: no network, programs or other processes")
    return found


def missing() -> list[str]:
    """What this system could have and has not, in words."""
    found = []
    if sys.platform.startswith("linux"):
        if _landlock_abi() <= 0:
            found.append("landlock (Linux 5.13 and later): readers can open this user's files")
        if _machine() is None:
            found.append("seccomp for this processor: readers can use the network")
    else:
        found.append("a file and network sandbox: readers can open this user's files")
    return found


def _limit_hard(trust: Trust) -> None:
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: 256}
    if trust is Trust.READER:
        limits[resource.RLIMIT_FSIZE] = 0
    for limit, value in limits.items():
        with suppress(OSError, ValueError):
            resource.setrlimit(limit, (value, value))


# ---- Linux. Numbers are those of include/uapi/linux: prctl.h, landlock.h, seccomp.h, audit.h.

_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_PATH_BENEATH = 1
_VERSION = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_READ = _READ_FILE | _READ_DIR
# All rights over files of each version of landlock, and of its first.
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_NO_TCP, _NO_ABSTRACT_SOCKETS_OR_SIGNALS = 3, 3
_SYSTEM = (
    "/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib",
    "/usr/share/zoneinfo", "/nix/store", "/etc/ld.so.cache", "/etc/localtime", "/dev/urandom",
)  # fmt: skip
_INSTALLED = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/opt", "/etc", "/var/lib", "/snap",
    "/var/spool/libreoffice", "/proc", "/sys/devices/system/cpu")  # fmt: skip


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _syscall(*arguments: object) -> int:
    return int(_libc().syscall(*(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)))


def _prctl(*arguments: object) -> bool:
    given = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments]
    return bool(_libc().prctl(*given, *[ctypes.c_ulong(0)] * (5 - len(given))) == 0)


def _landlock_abi() -> int:
    """0 or less where there is none."""
    return _syscall(_CREATE_RULESET, None, 0, _VERSION)


def _landlock(trust: Trust) -> None:
    abi = _landlock_abi()
    if abi <= 0:
        return
    rights = _FILE_RIGHTS[max(version for version in _FILE_RIGHTS if version <= abi)]
    words = [rights]
    words += [_NO_TCP] if abi >= 4 else []
    words += [_NO_ABSTRACT_SOCKETS_OR_SIGNALS] if abi >= 6 else []
    attributes = struct.pack(f"={len(words)}Q", *words)
    rules = _syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if rules < 0:
        return
    try:
        for path, allowed in _allowed(trust, rights):
            _allow(rules, path, allowed)
        _syscall(_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _allowed(trust: Trust, rights: int) -> Iterator[tuple[str, int]]:
    yield "/dev/null", _READ_FILE | _WRITE_FILE
    if trust is Trust.OCR:
        yield "/", _READ | _EXECUTE
        yield os.environ.get("TMPDIR") or "/tmp", rights
        return
    if trust is Trust.CONVERT:
        # LibreOffice has its own socket in /tmp, whatever TMPDIR says.
        for path in {os.environ.get("TMPDIR") or "/tmp", "/tmp"}:
            yield path, rights
        for path in _INSTALLED:
            yield path, _READ | _EXECUTE
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    for path in {*_SYSTEM, *sys.path, *(f"{prefix}/lib" for prefix in prefixes)}:
        if path:
            yield path, _READ


def _allow(rules: int, path: str, allowed: int) -> None:
    with suppress(OSError):
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not Path(path).is_dir():
                allowed &= _EXECUTE | _READ_FILE | _WRITE_FILE
            rule = struct.pack("=Qi", allowed, descriptor)
            _syscall(_ADD_RULE, rules, _PATH_BENEATH, rule, 0)
        finally:
            os.close(descriptor)


_X86, _ARM = "x86_64", "aarch64"
_AUDIT = {_X86: 0xC000003E, _ARM: 0xC00000B7}
# Of each system call its number on x86-64 and on 64-bit Arm; -1 where there is none.
_FORBIDDEN = {
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200),
    "accept": (43, 202), "sendto": (44, 206), "sendmsg": (46, 211), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440),
    "kill": (62, 129), "tkill": (200, 130), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "mount": (165, 40),
    "umount2": (166, 39), "unshare": (272, 97), "setns": (308, 268), "chroot": (161, 51),
    "pivot_root": (155, 41), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "open_by_handle_at": (304, 265), "setrlimit": (160, 164),
    "setpriority": (141, 140), "sched_setscheduler": (144, 119), "kexec_load": (246, 104),
    "init_module": (175, 105), "finit_module": (313, 273), "shmget": (29, 194),
}  # fmt: skip
_FORBIDDEN_TO_READERS = {
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, -1), "vfork": (58, -1),
    "memfd_create": (319, 279),
}  # fmt: skip
_CLONE, _CLONE3, _PRLIMIT = (56, 220), (435, 435), (302, 261)
_CLONE_THREAD = 0x00010000
_LOAD, _EQUAL, _ABOVE, _BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = 1, 38


def _machine() -> str | None:
    machine = platform.machine()
    is_wide = struct.calcsize("P") == 8 and sys.byteorder == "little"
    return machine if machine in _AUDIT and is_wide else None


def _seccomp(trust: Trust) -> None:
    if (machine := _machine()) is None:
        return
    program = _program(machine, trust)
    code = b"".join(struct.pack("=HBBI", *one) for one in program)
    buffer = ctypes.create_string_buffer(code, len(code))

    class _Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    header = _Program(len(program), ctypes.cast(buffer, ctypes.c_void_p))
    _prctl(_SET_SECCOMP, _FILTER, ctypes.byref(header))


_Instruction = tuple[int, int, int, int]  # code, jump if true, if false, operand


def _program(machine: str, trust: Trust) -> list[_Instruction]:
    """The filter, in classic BPF: each system call in turn, the rest is allowed."""
    at = (_X86, _ARM).index(machine)
    calls = dict(_FORBIDDEN)
    if trust is Trust.CONVERT:  # LibreOffice ends where it cannot open, on disk, what others call
        del calls["bind"], calls["socket"]
    forbidden = list(calls.values())
    program: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_EQUAL, 1, 0, _AUDIT[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    if machine == _X86:  # the numbers of another interface to the same calls
        program += _unless(_ABOVE, 0x40000000, [(_RETURN, 0, 0, _ERRNO | _EPERM)])
    if trust is Trust.CONVERT:
        program += _unless(_EQUAL, _FORBIDDEN["socket"][at], _unless_local())
    if trust is Trust.READER:
        forbidden += _FORBIDDEN_TO_READERS.values()
        # Its flags are behind a pointer, where no filter sees them; without it clone is used.
        program += _unless(_EQUAL, _CLONE3[at], [(_RETURN, 0, 0, _ERRNO | _ENOSYS)])
        program += _unless(
            _EQUAL,
            _CLONE[at],
            [
                (_LOAD, 0, 0, _ARGUMENTS_AT),
                (_BITS, 1, 0, _CLONE_THREAD),
                (_RETURN, 0, 0, _ERRNO | _EPERM),
                (_RETURN, 0, 0, _ALLOW),
            ],
        )
        program += _unless(_EQUAL, _PRLIMIT[at], _unless_null(2))
    for numbers in forbidden:
        if numbers[at] >= 0:
            program += _unless(_EQUAL, numbers[at], [(_RETURN, 0, 0, _ERRNO | _EPERM)])
    return [*program, (_RETURN, 0, 0, _ALLOW)]


def _unless(test: int, value: int, then: Sequence[_Instruction]) -> list[_Instruction]:
    """`then`, which returns, where the number is as tested."""
    return [(test, 0, len(then), value), *then]


def _unless_local() -> list[_Instruction]:
    """Refuses a socket that is not of this machine alone (AF_UNIX)."""
    return [
        (_LOAD, 0, 0, _ARGUMENTS_AT),
        (_EQUAL, 0, 1, 1),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO | _EPERM),
    ]


def _unless_null(argument: int) -> list[_Instruction]:
    """Refuses where that argument points anywhere: prlimit then sets limits."""
    low, high = _ARGUMENTS_AT + 8 * argument, _ARGUMENTS_AT + 8 * argument + 4
    return [
        (_LOAD, 0, 0, low),
        (_EQUAL, 0, 2, 0),
        (_LOAD, 0, 0, high),
        (_EQUAL, 1, 0, 0),
        (_RETURN, 0, 0, _ERRNO | _EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
