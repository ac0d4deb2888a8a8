"""A plan for a machine that is described: what `mm1 models plan` asks of the engine."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from engine import placement
from engine.config import ModelConfig
from engine.model_source import ModelSource
from engine.placement import CheckpointInfo, Gpu, Machine, Placement, Precision, machine_rates
from engine.placement.estimate import TimeEstimate, estimate_times
from engine.placement.machine_rates import Measured, Rates
from engine.placement.weight_bytes import fp16_copies_bytes, with_quantization
from engine.quantized.forms import UNQUANTIZED, USUAL, Form
from engine.store.state_tensors import kv_dtype


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """How a context would be read on `machine`; `kv` is "int8", or None for the matmuls' dtype.

    `precision` is what the checkpoint's plain weights are stored in.
    """

    config: ModelConfig
    machine: Machine
    num_tokens: int
    chunk_tokens: int
    kv: str | None
    is_mapped: bool
    precision: Precision

    def plan(self) -> Placement:
        kv = kv_dtype(self.kv) if self.kv else None
        return placement.plan(
            self.config,
            self.num_tokens,
            self.chunk_tokens,
            torch.bfloat16 if self.machine.gpus else torch.float32,
            kv_dtype=kv,
            is_mapped=self.is_mapped,
            precision=self.precision,
            machine=self.machine,
            fp16_copies_bytes=0
            if self.machine.gpus
            else fp16_copies_bytes(self.config, self.machine.ram_bytes),
        )

    def remedies(self) -> list[str]:
        """What would make it possible where it is not; see `placement.remedies`."""
        return placement.remedies(
            self._with,
            num_tokens=self.num_tokens,
            is_int8_kv=self.kv == "int8",
            is_quantised=self.config.quantization != UNQUANTIZED,
        )

    def _with(
        self, num_tokens: int, is_int8_kv: bool, form: Form | None, more_bytes: int
    ) -> Placement:
        machine = self.machine
        gpus = tuple(replace(gpu, num_bytes=gpu.num_bytes + more_bytes) for gpu in machine.gpus)
        ram_bytes = machine.ram_bytes + (0 if gpus else more_bytes)
        changed = replace(
            self,
            machine=replace(machine, gpus=gpus, ram_bytes=ram_bytes),
            num_tokens=num_tokens,
            kv="int8" if is_int8_kv else None,
            config=self.config if form is None else with_quantization(self.config, form),
        )
        return changed.plan()


def described(
    ram_bytes: int | None,
    gpus_bytes: Sequence[int],
    disk_bytes: int | None,
    *,
    device: str,
    folder: Path,
) -> Machine:
    """The machine that is told of, and this one where nothing is told: its GPUs if `device` is
    cuda, the disk that `folder` is on."""
    here = placement.here([torch.device("cpu")], folder)
    gpus = tuple(Gpu(f"GPU {index}", size) for index, size in enumerate(gpus_bytes))
    if not gpus and device.startswith("cuda"):
        gpus = placement.gpus_here()
    return Machine(
        here.ram_bytes if ram_bytes is None else ram_bytes,
        gpus,
        here.disk_bytes if disk_bytes is None else disk_bytes,
    )


def measured(
    folder: Path, outline: CheckpointInfo, machine: Machine, *, threads: int | None, again: bool
) -> Measured:
    """What this machine does per second, measured now or kept in `folder` from before.

    Of GPUs that are not here nothing is known. Takes a few seconds and 256 MB in `folder`.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    file = folder / "rates.json"
    found, dates = Rates(), []
    with suppress(OSError):  # a disk that cannot be written to is not measured
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        disk = machine_rates.kept(
            file,
            machine_rates.disk_key(outline.shard or folder, folder),
            lambda: machine_rates.of_disk(folder, outline.shard),
            again=again,
        )
        found, dates = disk.rates, [disk.date]
    if machine.is_here:
        device = torch.device("cuda" if machine.gpus else "cpu")
        known = machine_rates.kept(
            file,
            machine_rates.device_key(device),
            lambda: machine_rates.of_device(device),
            again=again,
        )
        found = known.rates.over(found)
        dates.append(known.date)
    return Measured(found, min(dates, default=""))


@dataclass(frozen=True, slots=True)
class Report:
    """A plan and all it rests on. `weights_bytes` are those of the model at each precision.

    Where it does not fit, `lacks` says what is missing and `would_fit` what would help.
    """

    outline: CheckpointInfo
    machine: Machine
    plan: Placement
    num_tokens: int
    weights_bytes: dict[str, int]
    rates: Rates
    measured: str  # when; "" if all rates were told
    times: TimeEstimate
    lacks: str
    would_fit: tuple[str, ...]

    @property
    def fits(self) -> bool:
        return self.plan.fits_and_is_saved


def report(
    model: Path,
    *,
    num_tokens: int | None,
    chunk_tokens: int,
    kv: str | None,
    is_mapped: bool,
    weights: str,
    ram_bytes: int | None,
    gpus_bytes: Sequence[int],
    disk_bytes: int | None,
    device: str,
    rates: Mapping[str, float],
    rates_folder: Path,
    threads: int | None,
    measures_again: bool,
) -> Report:
    """How a context of `num_tokens`, by default the longest, would be read on the machine told of.

    `weights` is "stored", or what they would be quantised to. `rates` go before measured ones,
    which are kept in `rates_folder`. Raises EngineError.
    """
    source = ModelSource(model)
    config = source.config
    outline = placement.checkpoint_info(source, config)
    if weights != "stored":
        config = with_quantization(config, USUAL[weights])
    question = PlanRequest(
        config,
        described(ram_bytes, gpus_bytes, disk_bytes, device=device, folder=model),
        num_tokens or config.max_positions,
        chunk_tokens,
        kv,
        is_mapped=is_mapped,
        precision=outline.precision,
    )
    plan = question.plan()
    known = measured(rates_folder, outline, question.machine, threads=threads, again=measures_again)
    all_rates = Rates(**rates).over(known.rates)
    fits = plan.fits_and_is_saved
    return Report(
        outline,
        question.machine,
        plan,
        question.num_tokens,
        placement.weights_bytes(config, outline),
        all_rates,
        known.date,
        estimate_times(plan, all_rates),
        "" if fits else placement.lacking(plan),
        () if fits else tuple(question.remedies()),
    )
