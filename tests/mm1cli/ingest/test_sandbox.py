import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from mm1cli.ingest import confine, read_corpus
from mm1cli.ingest import sandbox as sandbox_module
from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.read import ReadOptions
from mm1cli.ingest.readers.reader import MIB, ReadError
from mm1cli.ingest.sandbox import Limits, Sandbox

HERE = str(Path(__file__).parent)
LIMITS = Limits(wall_s=20.0, cpu_s=20, memory_bytes=512 * MIB, reply_bytes=2 * MIB)


@pytest.fixture
def hostile(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", HERE)

    def make(**changes):
        limits = Limits(
            **{name: changes.get(name, getattr(LIMITS, name)) for name in LIMITS.__slots__}
        )
        return Sandbox(limits=limits, child_module="hostile_child")

    return make


def refusal(sandbox, reader):
    with pytest.raises(ReadError) as raised:
        sandbox.read(reader, b"")
    assert "\n" not in raised.value.detail
    return raised.value.reason, raised.value.detail


def child_of(sandbox):
    return int(sandbox.read("echo", b"").warnings[0].split()[1])


def is_running(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_one_child_reads_many_files_and_ends_with_the_sandbox(hostile, capfd):
    """Red: every file pays for a new process, or processes pile up."""
    with hostile() as sandbox:
        assert sandbox.read("echo", "naïve\n".encode()).blocks[0].text == "naïve\n"
        large = b"x" * 1_500_000
        assert sandbox.read("echo", large).blocks[0].text == large.decode()
        first = child_of(sandbox)
        assert child_of(sandbox) == first
    assert not is_running(first)
    assert capfd.readouterr() == ("", "")


def test_what_a_reader_says_arrives_as_one_line(hostile):
    """Red: reasons are lost on the way, or a message breaks a table."""
    with hostile() as sandbox:
        first = child_of(sandbox)
        assert refusal(sandbox, "refuse") == (Reason.NO_TEXT, "two\\nlines")
        assert refusal(sandbox, "fail") == (
            Reason.UNREADABLE,
            "RuntimeError: a bug\\nin a library",
        )
        assert child_of(sandbox) == first


def test_members_come_with_their_bytes(hostile):
    """Red: the files of an archive arrive mixed up, or as text."""
    with hostile() as sandbox:
        one, two, three = sandbox.read("box", b"x" * 100_000).members
        assert (one.name, one.data) == ("a.txt", b"x" * 100_000)
        assert (two.name, two.data, two.refusal) == ("b.bin", b"\0" * 10, None)
        assert three.data == b"" and three.refusal.reason is Reason.ENCRYPTED
        assert sandbox.read("echo", b"next").blocks[0].text == "next"


def test_a_run_that_is_stopped_starts_nothing_more(hostile):
    """Red: Ctrl-C waits for readers, or they start again."""
    with hostile() as sandbox:
        first = child_of(sandbox)
        threading.Timer(0.3, sandbox.abort).start()
        start = time.monotonic()
        assert refusal(sandbox, "sleep")[0] is Reason.UNREADABLE
        assert time.monotonic() - start < 10
        assert refusal(sandbox, "echo") == (Reason.UNREADABLE, "the run was stopped")
    assert not is_running(first)


@pytest.mark.parametrize(
    ("reader", "limits", "expected"),
    [
        ("sleep", {"wall_s": 0.6}, (Reason.TOO_SLOW, "stopped after 0.6 s")),
        ("loop", {"cpu_s": 1}, (Reason.TOO_SLOW, "stopped after 1 s of CPU time")),
        ("allocate", {}, (Reason.UNREADABLE, "reader ran out of memory")),
        ("crash", {}, (Reason.UNREADABLE, "reader crashed")),
        ("flood", {}, (Reason.TOO_LARGE, "more than 2 MiB of text")),
    ],
)
def test_a_breach_is_one_refusal_and_the_next_file_is_read(hostile, reader, limits, expected):
    """Red: one hostile file hangs or ends the run."""
    with hostile(**limits) as sandbox:
        first = child_of(sandbox)
        start = time.monotonic()
        assert refusal(sandbox, reader) == expected
        assert time.monotonic() - start < 5
        second = child_of(sandbox)
        assert second != first and not is_running(first)


def test_a_child_that_cannot_start_is_a_refusal():
    """Red: a broken installation shows as a traceback."""
    with Sandbox(child_module="no_such_module") as sandbox:
        assert refusal(sandbox, "pdf") == (Reason.UNREADABLE, "reader crashed")


def test_the_current_folder_cannot_slip_code_into_the_child(tmp_path, monkeypatch, make_pdf):
    """Red: reading a hostile repository from inside it runs its code."""
    for name in ("json", "pypdf", "mm1cli"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    with Sandbox() as sandbox:
        assert sandbox.read("pdf", make_pdf("safe")).blocks[0].text == "safe"


def test_the_child_does_not_load_torch(hostile):
    """Red: the first PDF costs seconds and a gigabyte."""
    with hostile() as sandbox:
        modules = sandbox.read("imported", b"").blocks[0].text.split()
    assert "mm1cli.ingest.readers" in modules
    assert not {"torch", "numpy", "pypdf", "docx"} & set(modules)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
def test_a_busy_child_dies_with_a_parent_that_is_killed():
    """Red: readers go on for ever after the program was killed."""
    program = (
        "from mm1cli.ingest.sandbox import Sandbox\n"
        "sandbox = Sandbox(child_module='hostile_child')\n"
        "print(sandbox.read('echo', b'').warnings[0].split()[1], flush=True)\n"
        "sandbox.read('loop', b'')\n"
    )
    root = str(Path(__file__).parents[3])
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([root, HERE])},
    ) as parent:
        child = int(parent.stdout.readline())
        time.sleep(0.2)
        assert is_running(child)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 5
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(child)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="landlock and seccomp")
def test_a_reader_that_was_taken_over_gets_nowhere(hostile, monkeypatch, own_home, tmp_path):
    """Red: one document reads, sends or changes what its reader's owner can."""
    if confine.missing():
        pytest.skip("; ".join(confine.missing()))
    monkeypatch.setenv("SECRET_OF_MINE", "1")
    (tmp_path / "other.txt").write_text("not for you")
    server = socket.create_server(("127.0.0.1", 0))
    attempts = {
        "read_file": ["/etc/passwd", str(tmp_path / "other.txt"), "/proc/self/environ"],
        "see_parent": [""],
        "read_environment": ["SECRET_OF_MINE", "HOME"],
        "connect": [str(server.getsockname()[1])],
        "execute": [""],
        "fork": [""],
        "write_file": [str(own_home / "x"), str(tmp_path / "other.txt"), "/tmp/mm1-x"],
        "raise_limits": [""],
        "signal_parent": [""],
    }
    with server, hostile(memory_bytes=2048 * MIB) as sandbox:
        for attempt, inputs in attempts.items():
            for data in inputs:
                (block,) = sandbox.read(attempt, data.encode()).blocks
                assert block.text == "PermissionError", (attempt, data)
    assert not list(own_home.iterdir()) and (tmp_path / "other.txt").read_text() == "not for you"


def test_files_of_another_trust_get_another_child(tmp_path, monkeypatch, make_pdf):
    """Red: what an archive made of its reader reads the next person's file."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("1.pdf", make_pdf("one"))
        archive.writestr("2.pdf", make_pdf("two"))
    (tmp_path / "b.pdf").write_bytes(make_pdf("b"))
    (tmp_path / "c.pdf").write_bytes(make_pdf("c"))
    (tmp_path / "d.pdf").write_bytes(make_pdf("d")[:-9])  # read, with a warning
    (tmp_path / "e.pdf").write_bytes(make_pdf("e"))
    (tmp_path / "f.pdf").write_bytes(make_pdf("f", ""))  # a page without text: a remark, no damage
    (tmp_path / "g.pdf").write_bytes(make_pdf("g"))
    started = []
    start = sandbox_module._start
    monkeypatch.setattr(
        sandbox_module, "_start", lambda *given: started.append(start(*given)) or started[-1]
    )
    read = read_corpus([str(tmp_path)], options=ReadOptions(num_workers=1))
    assert [one.path.rpartition("/")[2] for one in read.documents if one.blocks] == [
        "1.pdf", "2.pdf", "b.pdf", "c.pdf", "d.pdf", "e.pdf", "f.pdf", "g.pdf"
    ]  # fmt: skip
    assert len(started) == 3  # of the archive; b, c and d; e, f and g


def test_the_filter_is_as_long_as_its_jumps_say():
    """Red: a system call that is forbidden is let through on another processor."""
    for machine in ("x86_64", "aarch64"):
        for trust in confine.Trust:
            program = confine._program(machine, trust)
            assert decide(program, machine, 0 if machine == "aarch64" else 5) == "allow"
            execve, clone, prlimit = {"x86_64": (59, 56, 302), "aarch64": (221, 220, 261)}[machine]
            is_reader = trust is confine.Trust.READER
            assert decide(program, machine, execve) == ("refuse" if is_reader else "allow")
            assert decide(program, machine, clone, [0x11]) == ("refuse" if is_reader else "allow")
            assert decide(program, machine, clone, [0x10F00]) == "allow"
            assert decide(program, machine, prlimit, [0, 7, 0]) == "allow"
            assert decide(program, machine, prlimit, [0, 7, 1 << 33]) == (
                "refuse" if is_reader else "allow"
            )
            socket, connect = {"x86_64": (41, 42), "aarch64": (198, 203)}[machine]
            local = "allow" if trust is confine.Trust.CONVERT else "refuse"
            assert decide(program, machine, socket, [1]) == local
            assert decide(program, machine, socket, [2]) == "refuse"
            assert decide(program, machine, connect) == "refuse"
            assert decide(program, "x86_64" if machine == "aarch64" else "aarch64", 0) == "kill"
    assert decide(confine._program("x86_64", trust), "x86_64", 0x40000000 + 59) == "refuse"


def decide(program, machine, number, arguments=()):
    """What a kernel makes of a system call."""
    data = struct.pack("=IIQ", number, confine._AUDIT[machine], 0)
    data += struct.pack("=6Q", *(list(arguments) + [0] * 6)[:6])
    at = value = 0
    while True:
        code, yes, no, operand = program[at]
        at += 1
        if code == confine._LOAD:
            (value,) = struct.unpack_from("=I", data, operand)
        elif code == confine._RETURN:
            return {0x7FFF: "allow", 0x8000: "kill", 0x0005: "refuse"}[operand >> 16]
        else:
            is_so = {
                confine._EQUAL: value == operand,
                confine._ABOVE: value >= operand,
                confine._BITS: bool(value & operand),
            }[code]
            at += yes if is_so else no


def test_a_converter_may_use_what_libreoffice_needs(monkeypatch):
    """Red: where TMPDIR is set, or Debian keeps its packages' cache, no .doc is ever converted."""
    monkeypatch.setenv("TMPDIR", "/somewhere")
    allowed = dict(confine._allowed(confine.Trust.CONVERT, 1 << 13))
    assert allowed["/tmp"] == allowed["/somewhere"] == 1 << 13
    assert "/var/spool/libreoffice" in allowed
