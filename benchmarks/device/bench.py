"""What a step is given: a device, sizes that fit it, clocks that hold, and what is known so far."""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TypeVar

import torch
from torch import Tensor

Row = dict[str, object]
T = TypeVar("T")

_FLUSHED_BYTES = 256 * 2**20  # several times the L2 of an H100 or H200
_MOST_REPEATS = 30
_SECONDS_PER_CASE = 1.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one run: the median and the best of `repeats`."""

    median_s: float
    best_s: float
    repeats: int


@dataclass(slots=True)
class Bench:
    """`dry` is a CPU through Triton's interpreter: sizes are toys and times mean nothing."""

    device: torch.device
    dry: bool
    end: float  # of time.monotonic
    known: Mapping[str, Sequence[Row]]  # rows of the steps that are done
    rows: list[Row] = field(default_factory=list)  # of this step

    @property
    def seconds_left(self) -> float:
        return self.end - time.monotonic()

    def pick(self, real: T, toy: T) -> T:
        return toy if self.dry else real

    def random(self, *shape: int, dtype: torch.dtype = torch.bfloat16, std: float = 1.0) -> Tensor:
        """Normal numbers; zeros would be faster than real data."""
        return torch.empty(shape, dtype=dtype, device=self.device).normal_(std=std)

    def add(self, case: str, timing: Timing | None = None, /, **values: object) -> Row:
        row: Row = {"case": case}
        if timing is not None:
            row |= {"ms": 1e3 * timing.median_s, "best_ms": 1e3 * timing.best_s}
            row["repeats"] = timing.repeats
        row |= values
        self.rows.append(row)
        return row

    def rate(
        self, case: str, timing: Timing, *, flops: float = 0, num_bytes: float = 0, **values: object
    ) -> Row:
        """A row with what was reached by the median: TFLOP/s, GB/s, or both."""
        if flops:
            values["tflops"] = flops / timing.median_s / 1e12
        if num_bytes:
            values["gb_s"] = num_bytes / timing.median_s / 1e9
        return self.add(case, timing, **values)

    def time(self, work: Callable[[], object], *, calls: int = 1, flush: bool = False) -> Timing:
        """Seconds of one of the `calls` equal parts of `work`, after a run to warm up.

        With `flush` the L2 is overwritten before each run, which also gives the host the time to
        queue a short run as a whole.
        """
        work()
        if self.dry:
            began = time.perf_counter()
            work()
            took = (time.perf_counter() - began) / calls
            return Timing(took, took, 1)
        flushed = torch.empty(_FLUSHED_BYTES, dtype=torch.int8, device=self.device)
        torch.cuda.synchronize()
        found: list[float] = []
        began = time.monotonic()
        while len(found) < 3 or (
            len(found) < _MOST_REPEATS and time.monotonic() - began < _SECONDS_PER_CASE
        ):
            if flush:
                flushed.zero_()
            found.append(_elapsed_s(work) / calls)
        return Timing(median(found), min(found), len(found))

    def time_recorded(self, work: Callable[[], object], *, calls: int = 1) -> tuple[Timing, bool]:
        """As `time` with a flush, of a CUDA graph of `work` where it can be recorded."""
        if self.dry:
            return self.time(work, calls=calls), False
        work()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                work()
        except RuntimeError:
            torch.cuda.synchronize()
            return self.time(work, calls=calls, flush=True), False
        return self.time(graph.replay, calls=calls, flush=True), True

    def tidy(self) -> None:
        gc.collect()
        if not self.dry:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_bytes(self) -> int:
        return 0 if self.dry else torch.cuda.max_memory_allocated()

    def synchronize(self) -> None:
        if not self.dry:
            torch.cuda.synchronize()

    def against(self, name: str, work: Callable[[], object], **values: object) -> Row | None:
        """A peer's row, or one that says why there is none: peers may be missing or not fit."""
        try:
            return self.rate(name, self.time(work), peer=True, **values)  # type: ignore[arg-type]
        except (ImportError, RuntimeError, TypeError) as error:
            self.tidy()
            return self.add(name, peer=True, note=f"none: {first_line(error)}")


def first_line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:200] if text else ''}"


def _elapsed_s(work: Callable[[], object]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin.record()
    work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3
