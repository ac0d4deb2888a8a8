"""A plan as a table of at most 80 columns, and as one JSON object."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.model_files import CheckpointInfo, DeviceBytes, Placement, Rates, TimeEstimate

WIDTH = 80
_COLUMNS = ("weights", "pool", "KV", "states", "activations", "total", "free")
_UNITS = {
    "product": "FLOP/s",
    "attention": "FLOP/s",
    "memory": "B/s",
    "int8": "B/s",
    "int4": "B/s",
    "read": "B/s",
    "write": "B/s",
    "link": "B/s",
}


@dataclass(frozen=True, slots=True)
class Table:
    """One plan and what it was made from; `weights` are bytes of the model at each precision."""

    name: str
    outline: "CheckpointInfo"
    plan: "Placement"
    num_tokens: int
    weights: dict[str, int]
    rates: "Rates"
    measured: str

    def text(self, times: "TimeEstimate") -> str:
        lines = [*self._head(), "", *self._devices(), "", *self._work(times), ""]
        lines += _wrapped(f"{self.plan.driver}: {self.plan.why}")
        return "".join(f"{line.rstrip()}\n" for line in lines)

    def as_json(self) -> dict[str, object]:
        plan = self.plan
        return {
            "model": self.name,
            "tokens": self.num_tokens,
            "tensors": self.outline.num_tensors,
            "shards": self.outline.num_shards,
            "stored_bytes": self.outline.stored_bytes,
            "stored_precision": self.outline.stored_as,
            "weights_bytes": self.weights,
            "driver": plan.driver,
            "is_streamed": plan.is_streamed,
            "why": plan.why,
            "devices": [asdict(one) | {"total_bytes": one.total_bytes} for one in plan.devices],
            "spill_bytes": plan.spill_bytes,
            "saved_bytes": plan.saved_bytes,
            "disk_free_bytes": plan.disk_room_bytes,
            "load_bytes": plan.load_bytes,
            "prefill_read_bytes": plan.prefill_read_bytes,
            "prefill_written_bytes": plan.prefill_written_bytes,
            "token_read_bytes": plan.token_read_bytes,
            "token_memory_bytes": plan.token_memory_bytes,
            "prefill_operations": asdict(plan.prefill_flops),
            "token_operations": asdict(plan.token_flops),
            "rates_measured": self.measured or None,
        }

    def _head(self) -> Iterable[str]:
        yield from _wrapped(f"{self.name}: {self.num_tokens:,} tokens, {self.plan.driver}")
        yield from _wrapped(
            f"{self.outline.num_tensors:,} tensors, {self.outline.stored_bytes:,} bytes as "
            f"{self.outline.stored_as}, by {self.outline.source}"
        )
        sizes = ", ".join(f"{name} {_gb(size)}" for name, size in self.weights.items())
        yield from _wrapped(f"weights in GB: {sizes}")

    def _devices(self) -> Iterable[str]:
        yield _row("GB", _COLUMNS)
        for device in self.plan.devices:
            yield _row(device.name, [_cell(size) for size in _sizes(device)])
        plan = self.plan
        if plan.disk_bytes:
            parts = {"hidden states": plan.spill_bytes, "KV that is saved": plan.saved_bytes}
            shown = ", ".join(f"{name} {_gb(size)}" for name, size in parts.items() if size)
            free = _gb(plan.disk_room_bytes or 0)
            yield f"disk      {shown}; {free} free"
        stages = [one for one in plan.computing if len(plan.computing) > 1]
        if stages:
            shown = ", ".join(
                f"{one.first_layer}-{one.first_layer + one.num_layers - 1}" for one in stages
            )
            yield from _wrapped(f"layers of each: {shown}")

    def _work(self, times: "TimeEstimate") -> Iterable[str]:
        plan, work = self.plan, self.plan.prefill_flops
        yield _line("", "the context", "one token after it")
        read = plan.prefill_read_bytes + (0 if plan.is_streamed else plan.load_bytes)
        yield _line("read from disk, GB", _gb(read), _gb(plan.token_read_bytes))
        if plan.prefill_written_bytes:
            yield _line("written to disk, GB", _gb(plan.prefill_written_bytes), "-")
        yield _line("moved in memory, GB", "", _gb(plan.token_memory_bytes))
        total = work.total or 1
        yield _line("operations", _count(work.total), _count(plan.token_flops.total))
        parts = {
            "dense": work.dense,
            "experts": work.experts,
            "Lightning": work.lightning,
            "softmax": work.softmax,
        }
        shares = ", ".join(f"{n} {c / total:.1%}" for n, c in parts.items() if c)
        yield f"  of the context: {shares}"
        yield _line("time, at best", _duration(times.prefill_s), _duration(times.token_s))
        if not plan.is_streamed and times.load_s is not None:
            yield _line("  and to load", _duration(times.load_s), "")
        if times.unknown:
            yield from _wrapped(
                f"no rate is known for: {', '.join(times.unknown)} (--rate NAME=SIZE gives one)"
            )
        known = {n: rate for n, rate in asdict(self.rates).items() if rate is not None}
        if known:
            shown = ", ".join(f"{n} {_count(rate)}{_UNITS[n]}" for n, rate in known.items())
            date = f", measured here {self.measured}" if self.measured else ""
            yield from _wrapped(f"at {shown}{date}")


def _sizes(device: "DeviceBytes") -> Sequence[int]:
    return (
        device.weights_bytes,
        device.pool_bytes,
        device.kv_bytes,
        device.state_bytes,
        device.activation_bytes,
        device.total_bytes,
        device.room_bytes or 0,
    )


def _row(name: str, cells: Sequence[str]) -> str:
    return f"{name:<9.9}" + "".join(f"{cell:>{max(len(c), 7) + 2}}" for cell, c in _with(cells))


def _with(cells: Sequence[str]) -> Iterable[tuple[str, str]]:
    return zip(cells, _COLUMNS, strict=True)


def _line(label: str, first: str, second: str) -> str:
    return f"{label:<22}{first:>14}{second:>22}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_long_words=True)


def _cell(num_bytes: int) -> str:
    return _gb(num_bytes) if num_bytes else "-"


def _gb(num_bytes: int) -> str:
    size = num_bytes / 1e9
    return f"{size:,.0f}" if size >= 100 else f"{size:.1f}" if size >= 1 else f"{size:.3f}"


def _count(number: float) -> str:
    for power, unit in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number / 10**power:.3g} {unit}"
    return f"{number:.3g} "


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.3g} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.3g} h"
    return f"{seconds / 86400:,.0f} days"
