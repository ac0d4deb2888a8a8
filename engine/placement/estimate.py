"""How long a plan takes at given rates; nothing where a rate it needs is not known."""

from dataclasses import dataclass

from engine.placement.machine_rates import Rates
from engine.placement.plan import Placement
from engine.quantized.forms import Form


@dataclass(frozen=True, slots=True)
class TimeEstimate:
    """Seconds, at best; None where a rate is unknown. `unknown` names those rates.

    `load_s` comes before; reading the context takes the larger of `compute_s` and `disk_s`, as the
    next weights are read while these compute. A token takes its reading and its memory traffic one
    after the other, as experts are known late.
    """

    load_s: float | None
    compute_s: float | None
    disk_s: float | None
    prefill_s: float | None
    token_s: float | None
    unknown: tuple[str, ...]


def estimate_times(placement: Placement, rates: Rates) -> TimeEstimate:
    unknown: list[str] = []

    def seconds(amount: float, rate: float | None, name: str) -> float | None:
        if not amount:
            return 0.0
        if rate is None:
            unknown.append(name)
            return None
        return amount / rate

    work = placement.prefill_flops
    compute_s = _sum(
        seconds(work.matmuls, rates.product, "product"),
        seconds(work.attention, rates.attention, "attention"),
    )
    stages = max(len(placement.computing), 1)
    if compute_s is not None and stages > 1:  # chunks follow each other through the devices
        compute_s *= (placement.num_chunks + stages - 1) / (placement.num_chunks or 1) / stages
    disk_s = _sum(
        seconds(placement.prefill_read_bytes, rates.read, "read"),
        seconds(placement.prefill_written_bytes, rates.write, "write"),
    )
    load_s = seconds(placement.load_bytes, rates.read, "read")
    on_gpu = placement.computing and placement.computing[0].name != "RAM"
    link_s = None
    if on_gpu and placement.is_streamed:
        link_s = seconds(placement.prefill_read_bytes, rates.link, "link")
        prefill_s = _largest(compute_s, disk_s, link_s)
    else:
        prefill_s = _largest(compute_s, disk_s)
    name = "memory" if placement.form is Form.PLAIN else placement.form.bits
    token_s = _sum(
        seconds(placement.token_memory_bytes, rates.weights(placement.form), name),
        seconds(placement.token_read_bytes, rates.read, "read"),
    )
    return TimeEstimate(
        load_s, compute_s, disk_s, prefill_s, token_s, tuple(dict.fromkeys(unknown))
    )


def _sum(*parts: float | None) -> float | None:
    return None if None in parts else sum(part for part in parts if part is not None)


def _largest(*parts: float | None) -> float | None:
    return None if None in parts else max(part for part in parts if part is not None)
