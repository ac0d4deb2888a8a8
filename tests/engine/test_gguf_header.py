"""Headers that lie: refused in one line, at once, with next to no memory."""

import struct
import time
import tracemalloc

import pytest
from ggufs import tiny_gguf

from engine.errors import GgufError
from engine.gguf.file import read_gguf
from engine.gguf.header import Texts, read_header
from engine.gguf.info import read_info


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def number(key, value):
    return text(key) + struct.pack("<II", 4, value)


def texts(key, *values, length=None):
    head = struct.pack("<IIQ", 9, 8, len(values) if length is None else length)
    return text(key) + head + b"".join(map(text, values))


def tensor(name, shape=(4,), kind=0, offset=0):
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + dimensions + struct.pack("<IQ", kind, offset)


def write(folder, values=(), tensors=(), tail=bytes(64), counts=None, version=3):
    path = folder / "x.gguf"
    num_tensors, num_values = counts or (len(tensors), len(values))
    head = b"GGUF" + struct.pack("<IQQ", version, num_tensors, num_values)
    path.write_bytes(head + b"".join(values) + b"".join(tensors) + tail)
    return path


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"counts": (2**60, 0)}, "cut short"),
        ({"counts": (0, 2**60)}, "cut short"),
        ({"version": 1}, "version 1 is not supported"),
        ({"values": [texts("a", length=2**60)]}, "cut short"),
        ({"values": [texts("a", "b", length=2**20)]}, "cut short"),
        ({"values": [text("a") + struct.pack("<IQ", 8, 2**63)]}, "cut short"),
        ({"values": [text("a") + struct.pack("<IIQQ", 9, 8, 1, 2**63)]}, "cut short"),
        ({"values": [text("a") + struct.pack("<IIQQ", 9, 8, 1, 2**64 - 1)]}, "cut short"),
        ({"values": [text("a") + struct.pack("<IIQ", 9, 9, 1)]}, "array of unsupported type 9"),
        ({"values": [text("a") + struct.pack("<I", 77)]}, "unknown type 77"),
        ({"values": [text(b"\xff")]}, "not UTF-8"),
        ({"values": [number("a", 1), number("a", 2)]}, "the metadata key 'a' appears twice"),
        ({"values": [number("general.alignment", 0)]}, "alignment"),
        ({"tensors": [tensor("a"), tensor("a")]}, "'a' appears twice"),
        ({"tensors": [tensor("a", (4,) * 9)]}, "9 dimensions"),
        ({"tensors": [tensor("a", (0,))]}, "'a' is empty"),
        ({"tensors": [tensor("a", (2**40, 2**20))]}, "cut short"),
        ({"tensors": [tensor("a", offset=2**62)]}, "cut short"),
        ({"tensors": [tensor("a", (33,), 2)]}, "rows of 33 do not divide into Q4_0 blocks"),
        ({"tensors": [tensor("a", (256,), 16)]}, "IQ2_XXS of 'a' is not supported; get the model"),
        ({"tensors": [tensor("a", (4,), 999)]}, "unknown quantisation 999; get the model"),
        (
            {"tensors": [tensor(f"{i}", (16,)) for i in range(9)], "tail": bytes(96)},
            "tensors overlap",
        ),
    ],
)
def test_lies_are_refused_at_once(parts, reason, tmp_path):
    path = write(tmp_path, **parts)
    began = time.monotonic()
    tracemalloc.start()
    with pytest.raises(GgufError, match=reason) as caught:
        read_gguf(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert peak < 2**20 and time.monotonic() - began < 1


def test_a_file_of_holes_is_refused_before_it_is_walked(tmp_path):
    """Red: a sparse file of a terabyte, which takes no room on a disk, keeps us busy for hours."""
    for length in (2**30, 2**22):
        path = write(tmp_path, [texts("a", length=length)])
        with path.open("r+b") as file:
            file.truncate(2**40)
        began = time.monotonic()
        with pytest.raises(GgufError):
            read_gguf(path)
        assert time.monotonic() - began < 1


def test_texts_are_decoded_when_asked_for(tmp_path):
    path = write(tmp_path, [texts("good", "ä", "", "b\n"), texts("bad", b"\xff")])
    metadata = read_header(path).metadata
    assert len(metadata["good"]) == 3 and list(metadata["good"]) == ["ä", "", "b\n"]
    assert metadata["good"][0] == "ä" and metadata["good"][1:] == ["", "b\n"]
    assert isinstance(metadata["bad"], Texts)
    with pytest.raises(GgufError, match="not UTF-8"):
        metadata["bad"].tolist()


def test_info_lists_kinds_that_cannot_be_read(tmp_path):
    """Red: one file of a kind we do not read hides a whole folder of models from a listing."""
    values = [text("general.architecture") + struct.pack("<I", 8) + text("qwen9")]
    path = write(tmp_path, values, [tensor("a", (256,), 16), tensor("b", (4,), 999)])
    path.write_bytes(path.read_bytes() + bytes(128))
    info = read_info(path)
    assert info.kinds == ("IQ2_XXS", "kind 999") and info.num_parameters == 260


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.9999])
def test_a_cut_file_is_refused(share, tmp_path):
    path = tiny_gguf(tmp_path, "qwen3", layers=1)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(GgufError, match="cut short"):
        read_gguf(path)
