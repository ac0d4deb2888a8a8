"""Red here means a start compiles what it need not, or runs code that somebody else could write."""

import ctypes
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("llvmlite")
from llvmlite import ir

from kernels.jit import builder, object_cache

if builder._NEEDED.get(builder.platform.machine().lower()) is None:
    pytest.skip("no JIT for this processor", allow_module_level=True)


@pytest.fixture
def folder(tmp_path):
    object_cache.keep_in(tmp_path / "code")
    yield tmp_path / "code"
    object_cache._folder.clear()


def write(function, number=42):
    """Stores `number` where its argument points to."""
    b = ir.IRBuilder(function.append_basic_block())
    b.store(ir.Constant(builder.I64, number), function.args[0])
    b.ret_void()


def stored_by(address):
    found = ctypes.c_int64()
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)(ctypes.addressof(found))
    return found.value


def compiled(number=42, **options):
    return stored_by(builder.compiled(lambda function, _: write(function, number), **options))


def test_what_was_compiled_is_not_compiled_again(folder, monkeypatch):
    assert compiled() == 42
    (file,) = folder.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700 and file.stat().st_mode & 0o777 == 0o600
    with monkeypatch.context() as patch:
        patch.setattr(builder, "_optimised", lambda *_: pytest.fail("compiled again"))
        assert compiled() == 42
    assert compiled(7) == 7 and compiled(8, unrolls=False) == 8
    assert compiled(9, is_kept=False) == 9
    assert len(list(folder.iterdir())) == 3
    monkeypatch.setattr(builder, "_compiler", lambda _: ("another processor",))
    assert compiled() == 42 and len(list(folder.iterdir())) == 4


@settings(max_examples=10, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), length=st.floats(0, 1))
def test_a_damaged_file_is_not_run(tmp_path_factory, place, length):
    folder = tmp_path_factory.mktemp("kept")
    object_cache.keep_in(folder)
    try:
        code = bytes(range(256)) * 20
        object_cache.save("a.o", code)
        assert object_cache.load("a.o") == code
        whole = (folder / "a.o").read_bytes()
        changed = bytearray(whole)
        changed[int(place * len(whole))] ^= 1
        for content in (bytes(changed), whole[: int(length * (len(whole) - 1))], whole + b"\0"):
            (folder / "a.o").write_bytes(content)
            assert object_cache.load("a.o") is None
    finally:
        object_cache._folder.clear()


def test_what_others_could_write_is_not_run(folder, tmp_path):
    """Red: on a shared machine another user's code runs as this one."""
    object_cache.save("a.o", b"code")
    assert object_cache.load("a.o") == b"code"
    for path, mode in ((folder, 0o770), (folder, 0o702), (folder / "a.o", 0o620)):
        before = path.stat().st_mode
        path.chmod(mode)
        assert object_cache.load("a.o") is None
        path.chmod(before)
    folder.chmod(0o777)
    object_cache.save("b.o", b"code")
    folder.chmod(0o700)
    assert not (folder / "b.o").exists() and object_cache.load("a.o") == b"code"
    (folder / "c.o").symlink_to(folder / "a.o")
    assert object_cache.load("c.o") is None
    (tmp_path / "link").symlink_to(folder)
    object_cache.keep_in(tmp_path / "link")
    assert object_cache.load("a.o") is None


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, folder):
    (tmp_path / "file").write_text("")
    object_cache.keep_in(tmp_path / "file" / "code")
    assert compiled(11) == 11


def test_of_too_many_those_not_used_for_longest_go(folder, monkeypatch):
    """Red: after some upgrades nothing new is ever kept."""
    monkeypatch.setattr(object_cache, "_MOST_FILES", 3)
    for number in range(3):
        object_cache.save(f"{number}.o", b"code")
        os.utime(folder / f"{number}.o", (number, number))
    assert object_cache.load("0.o") == b"code", "and it is in use"
    object_cache.save("3.o", b"code")
    assert {path.name for path in folder.iterdir()} == {"0.o", "2.o", "3.o"}
