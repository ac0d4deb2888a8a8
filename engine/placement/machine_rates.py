"""What a machine does per second, measured and kept; what was not measured is not known.

Short runs of the matmuls that decide, with the kernels that will run: a few seconds in all. They
say what can be reached, not what a whole run reaches.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import kernels
from engine import durable
from engine.quantized.forms import Form
from kernels import Int4Weight, Int8Weight
from kernels.quantized import Weight

_ROWS, _WIDTH = 1024, 2048  # a prefill chunk and a matrix, for the matmul rate
_HEADS, _HEAD_DIM, _QUERIES, _KEYS = 8, 128, 512, 8192
_WIDE_ROWS, _WIDE = 32_768, 4096  # 134 million weights: more than a cache holds
_PROBE_BYTES = 256 * 2**20
_BLOCK_BYTES = 8 * 2**20
_MOST_S = 2.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Per second; None where nobody has measured it.

    `product`: operations of matmuls of many rows with weights; `attention`: of softmax attention
    over a long history; `memory`, `int8`, `int4`: bytes of plain, int8 and int4 weights that one
    row is multiplied with; `read`, `write`: bytes from and to disk, nothing being cached; `link`:
    bytes from memory to the GPU.
    """

    product: float | None = None
    attention: float | None = None
    memory: float | None = None
    int8: float | None = None
    int4: float | None = None
    read: float | None = None
    write: float | None = None
    link: float | None = None

    def weights(self, form: Form) -> float | None:
        """Bytes of weights in `form` per second, for one row."""
        if form is Form.PLAIN:
            return self.memory
        return self.int8 if form is Form.INT8 else self.int4

    def over(self, other: "Rates") -> "Rates":
        """These, and those of `other` where these are not known."""
        return Rates(
            **{
                field.name: mine if (mine := getattr(self, field.name)) is not None else theirs
                for field in fields(self)
                for theirs in [getattr(other, field.name)]
            }
        )


@dataclass(frozen=True, slots=True)
class Measured:
    rates: Rates
    date: str  # YYYY-MM-DD


def kept(file: Path, key: str, measure: Callable[[], Rates], *, again: bool = False) -> Measured:
    """What `file` has under `key`, or what `measure` finds, which is then kept there with the date.

    A file that cannot be read or written is as good as none.
    """
    found: dict[str, object] = {}
    with suppress(OSError, ValueError):
        value = json.loads(file.read_text(encoding="utf-8"))
        found = value if isinstance(value, dict) else {}
    entry = found.get(key)
    if not again and isinstance(entry, Mapping) and (known := _parsed(entry)) is not None:
        return known
    measured = Measured(measure(), datetime.now().astimezone().date().isoformat())
    found[key] = {"date": measured.date, **asdict(measured.rates)}
    with suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = json.dumps(found, indent=1) + "\n"
        durable.write(file, lambda part: part.write_text(text, encoding="utf-8"), sync=False)
    return measured


def _parsed(entry: Mapping[str, object]) -> Measured | None:
    date = entry.get("date")
    values: dict[str, float | None] = {}
    for field in fields(Rates):
        value = entry.get(field.name)
        if value is not None and not (isinstance(value, int | float) and 0 < value < 1e18):
            return None
        values[field.name] = None if value is None else float(value)
    return Measured(Rates(**values), date) if isinstance(date, str) else None


def device_key(device: torch.device) -> str:
    """Of what `of_device` measures: another machine, device or number of threads is another."""
    if device.type == "cuda":
        return f"{platform.node()}, {torch.cuda.get_device_name(device)}"
    made_with = f"torch {torch.__version__}, llvmlite {_version('llvmlite')}"
    return f"{platform.node()}, CPU, {torch.get_num_threads()} threads, {made_with}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def disk_key(read: Path, written: Path) -> str:
    """Of what `of_disk` measures: what is read and what is written may lie on two disks."""
    return f"{platform.node()}, disks {read.stat().st_dev} and {written.stat().st_dev}"


def of_device(device: torch.device) -> Rates:
    """Matmuls, attention and memory of `device`, in the dtype matmuls run in there."""
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    with torch.inference_mode():
        product = _product(device, dtype)
        attention = _attention(device, dtype)
        plain = torch.ones(_WIDE_ROWS, _WIDE, dtype=dtype, device=device)
        packed = kernels.prepack(plain)
        assert isinstance(packed, torch.Tensor)
        memory = _one_row(packed, plain.nbytes, device, dtype)
        del packed
        del plain
        codes = torch.ones(_WIDE_ROWS, _WIDE, dtype=torch.int8, device=device)
        int8 = Int8Weight(codes, torch.ones(_WIDE_ROWS, device=device))
        int8_rate = _one_row(int8, int8.num_bytes, device, dtype)
        del codes, int8
        scales = torch.ones(_WIDE_ROWS, _WIDE // 64, dtype=torch.float16, device=device)
        halves = torch.ones(_WIDE_ROWS, _WIDE // 2, dtype=torch.uint8, device=device)
        int4 = Int4Weight(halves, scales, scales)
        int4_rate = _one_row(int4, int4.num_bytes, device, dtype)
    link = _link(device) if device.type == "cuda" else None
    return Rates(product, attention, memory, int8_rate, int4_rate, link=link)


def of_disk(folder: Path, shard: Path | None = None) -> Rates:
    """Reading of `shard`, or of the file that is written in `folder` to measure writing.

    Pages in the system's cache are dropped first, so that the disk is measured and not memory.
    """
    file = folder / f".probe-{os.getpid()}"
    file.unlink(missing_ok=True)  # a link would be written through
    try:
        write = _write(file)
        big = shard is not None and shard.stat().st_size >= _BLOCK_BYTES
        read = _read(shard if shard is not None and big else file)
    finally:
        file.unlink(missing_ok=True)
    return Rates(read=read, write=write)


def _write(file: Path) -> float:
    block = os.urandom(_BLOCK_BYTES)
    began, done = time.perf_counter(), 0
    with file.open("wb", buffering=0) as output:
        while done < _PROBE_BYTES and time.perf_counter() - began < _MOST_S:
            done += output.write(block)
        os.fsync(output.fileno())
    return done / (time.perf_counter() - began)


def _read(file: Path) -> float:
    buffer = bytearray(_BLOCK_BYTES)
    with file.open("rb", buffering=0) as source:
        os.posix_fadvise(source.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        began, done = time.perf_counter(), 0
        while done < _PROBE_BYTES and time.perf_counter() - began < _MOST_S:
            count = source.readinto(buffer)
            if not count:
                break
            done += count
        return done / (time.perf_counter() - began)


def _product(device: torch.device, dtype: torch.dtype) -> float:
    x = torch.randn(_ROWS, _WIDTH, device=device).to(dtype)
    weight = kernels.prepack(torch.randn(_WIDTH, _WIDTH, device=device).to(dtype))
    return 2 * _ROWS * _WIDTH**2 / _seconds(lambda: kernels.linear(x, weight), device)


def _attention(device: torch.device, dtype: torch.dtype) -> float:
    shape = (_HEADS, _HEAD_DIM)
    q = torch.randn(_QUERIES, *shape, device=device).to(dtype)
    keys = torch.randn(_KEYS, *shape, device=device).to(dtype)
    segments = [(keys, keys)]
    count = 4 * _HEADS * _HEAD_DIM * _QUERIES * (_KEYS - _QUERIES // 2)
    return count / _seconds(lambda: kernels.attention(q, segments, _HEAD_DIM**-0.5), device)


def _one_row(weight: Weight, num_bytes: int, device: torch.device, dtype: torch.dtype) -> float:
    x = torch.ones(1, _WIDE, dtype=dtype, device=device)
    return num_bytes / _seconds(lambda: kernels.linear(x, weight), device)


def _link(device: torch.device) -> float:
    pinned = torch.empty(_PROBE_BYTES, dtype=torch.uint8, pin_memory=True)
    target = torch.empty(_PROBE_BYTES, dtype=torch.uint8, device=device)
    return _PROBE_BYTES / _seconds(lambda: target.copy_(pinned, non_blocking=True), device)


def _seconds(work: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """The best of `repeats` after one that warms up."""
    best = float("inf")
    for number in range(repeats + 1):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number:
            best = min(best, time.perf_counter() - began)
    return best
