"""`mm1 models plan`: what a context of a model takes on a machine, before anything is done."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from mm1cli import library
from mm1cli.commands.reading import cache_root
from mm1cli.errors import BudgetError, UsageError
from mm1cli.output.plan_table import Table
from mm1cli.settings import Settings
from mm1cli.sizes import parse

if TYPE_CHECKING:
    from engine.config import ModelConfig
    from engine.placement import Machine, Outline, Placement, Precision
    from engine.placement.rates import Rates

RATES = ("product", "attention", "memory", "int8", "int4", "read", "write", "link")
WEIGHTS = ("stored", "int8", "int4")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says, not yet parsed."""

    context: str | None = None
    ram: str | None = None
    gpus: Sequence[str] = ()
    disk: str | None = None
    weights: str = "stored"
    rates: Sequence[str] = ()
    measure: bool = False


def run(name: str, asked: Asked, settings: Settings, stdout: TextIO, *, as_json: bool) -> None:
    """Prints the plan. Raises BudgetError (exit 4) with the sum where it cannot be done."""
    if asked.weights not in WEIGHTS:
        raise UsageError(f"--weights is {', '.join(WEIGHTS)}, not {ascii(asked.weights)[:40]}")
    told = _told_rates(asked.rates)
    num_tokens = parse(asked.context, "--context") if asked.context else None
    from engine import placement
    from engine.engine import read_config
    from engine.placement.times import times

    path = library.resolve(name)
    config = read_config(path)
    outline = placement.outline(path, config)
    machine = _machine(asked, settings, path)
    planning = _Planning(
        config,
        machine,
        num_tokens or config.max_positions,
        settings,
        outline.precision if asked.weights == "stored" else placement.Precision(asked.weights),
    )
    planned = planning.plan()
    rates, measured = _rates(asked, settings, machine, outline)
    rates = told.over(rates)
    sizes = placement.weights_bytes(config, outline)
    table = Table(name, config, outline, planned, planning.num_tokens, sizes, rates, measured)
    taken = times(planned, rates)
    fits = planned.fits_and_is_saved
    why_not = "" if fits else placement.lacking(planned)
    advice = [] if fits else planning.remedies()
    if as_json:
        facts = table.as_json() | {"fits": fits, "lacks": why_not or None, "would_fit": advice}
        facts |= {"times": asdict(taken), "rates": asdict(rates), "machine": asdict(machine)}
        stdout.write(json.dumps(facts) + "\n")
    else:
        stdout.write(table.text(taken))
    if not fits:
        hint = f"it fits with {', or '.join(advice)}" if advice else "use a smaller model"
        raise BudgetError(f"{why_not}; {hint}")


@dataclass(frozen=True, slots=True)
class _Planning:
    """One question asked of `placement.plan`, and the same with a little changed."""

    config: "ModelConfig"
    machine: "Machine"
    num_tokens: int
    settings: Settings
    precision: "Precision"

    def plan(
        self,
        num_tokens: int | None = None,
        is_int8_kv: bool | None = None,
        precision: "Precision | None" = None,
        more_bytes: int = 0,
    ) -> "Placement":
        import torch

        from engine import placement

        machine = self.machine
        if machine.gpus:
            dtype = torch.bfloat16
            gpus = tuple(replace(gpu, num_bytes=gpu.num_bytes + more_bytes) for gpu in machine.gpus)
            machine = replace(machine, gpus=gpus)
        else:
            dtype = torch.float32
            machine = replace(machine, ram_bytes=machine.ram_bytes + more_bytes)
        int8 = self.is_int8_kv if is_int8_kv is None else is_int8_kv
        return placement.plan(
            self.config,
            self.num_tokens if num_tokens is None else num_tokens,
            self.settings.chunk_tokens,
            dtype,
            kv_dtype=torch.int8 if int8 else None,
            is_mapped=not self.settings.no_cache,
            precision=precision or self.precision,
            machine=machine,
        )

    @property
    def is_int8_kv(self) -> bool:
        return self.settings.kv == "int8"

    def remedies(self) -> list[str]:
        from engine import placement

        return placement.remedies(
            self.plan,
            num_tokens=self.num_tokens,
            is_int8_kv=self.is_int8_kv,
            precision=self.precision,
        )


def _machine(asked: Asked, settings: Settings, folder: Path) -> "Machine":
    """What the flags say, and this machine's own where they say nothing."""
    import torch

    from engine import placement

    here = placement.here(torch.device("cpu"), folder)
    gpus = tuple(
        placement.Gpu(f"GPU {index}", parse(text, "--gpu")) for index, text in enumerate(asked.gpus)
    )
    if not gpus and settings.device.startswith("cuda"):
        gpus = placement.gpus_here()
    return placement.Machine(
        parse(asked.ram, "--ram") if asked.ram else here.ram_bytes,
        gpus,
        parse(asked.disk, "--disk") if asked.disk else here.disk_bytes,
    )


def _told_rates(texts: Sequence[str]) -> "Rates":
    values: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in RATES:
            raise UsageError(
                f"--rate is NAME=SIZE with a NAME of {', '.join(RATES)}, not {ascii(text)[:40]}"
            )
        values[name] = float(parse(value, f"--rate {name}"))
    from engine.placement.rates import Rates

    return Rates(**values)


def _rates(
    asked: Asked, settings: Settings, machine: "Machine", outline: "Outline"
) -> tuple["Rates", str]:
    """What was measured here, now or before, of what the plan runs on; and when."""
    import torch

    from engine.placement import rates

    file = cache_root(settings) / "rates.json"
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    found, dates = rates.Rates(), []
    with suppress(OSError):  # a disk that cannot be written to is not measured
        root = cache_root(settings)
        root.mkdir(parents=True, exist_ok=True)
        disk = rates.kept(
            file,
            rates.disk_key(outline.shard or root, root),
            lambda: rates.of_disk(root, outline.shard),
            again=asked.measure,
        )
        found, dates = disk.rates, [disk.date]
    if machine.is_here:
        device = torch.device("cuda" if machine.gpus else "cpu")
        known = rates.kept(
            file, rates.device_key(device), lambda: rates.of_device(device), again=asked.measure
        )
        found = known.rates.over(found)
        dates.append(known.date)
    return found, min(dates, default="")
