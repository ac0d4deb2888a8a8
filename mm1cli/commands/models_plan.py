"""`mm1 models plan`: what a context of a model takes on a machine, before anything is done."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import TextIO

from engine import model_files
from mm1cli.commands.opening import cache_root, models_dir
from mm1cli.errors import BudgetError, UsageError
from mm1cli.models import library
from mm1cli.output.plan_table import Table
from mm1cli.settings import Settings

RATES = ("product", "attention", "memory", "int8", "int4", "read", "write", "link")
WEIGHTS = ("stored", "int8", "int4")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SIZE = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*([kmgtp]?)(i?)b?", re.IGNORECASE | re.ASCII)
_LARGEST = 2**62


@dataclass(frozen=True, slots=True)
class PlanFlags:
    """What the command line says, not yet parsed."""

    context: str | None = None
    ram: str | None = None
    gpus: Sequence[str] = ()
    disk: str | None = None
    weights: str = "stored"
    rates: Sequence[str] = ()
    measure: bool = False


def run(name: str, asked: PlanFlags, settings: Settings, stdout: TextIO, *, as_json: bool) -> None:
    """Prints the plan. Raises BudgetError (exit 4) with the sum where it cannot be done."""
    if asked.weights not in WEIGHTS:
        raise UsageError(f"--weights is {', '.join(WEIGHTS)}, not {ascii(asked.weights)[:40]}")
    num_tokens, ram = _size(asked.context, "--context"), _size(asked.ram, "--ram")
    disk, gpus = _size(asked.disk, "--disk"), [parse_size(text, "--gpu") for text in asked.gpus]
    told = _told_rates(asked.rates)
    found = model_files.plan(
        library.resolve(name, models_dir(settings)),
        num_tokens=num_tokens,
        chunk_tokens=settings.chunk_tokens,
        kv=settings.kv,
        is_mapped=not settings.no_cache,
        weights=asked.weights,
        ram_bytes=ram,
        gpus_bytes=gpus,
        disk_bytes=disk,
        device=settings.device,
        rates=told,
        rates_folder=cache_root(settings),
        threads=settings.threads,
        measures_again=asked.measure,
    )
    table = Table(
        name,
        found.outline,
        found.plan,
        found.num_tokens,
        found.weights_bytes,
        found.rates,
        found.measured,
    )
    if as_json:
        facts = table.as_json() | {
            "fits": found.fits,
            "lacks": found.lacks or None,
            "would_fit": list(found.would_fit),
            "times": asdict(found.times),
            "rates": asdict(found.rates),
            "machine": asdict(found.machine),
        }
        stdout.write(json.dumps(facts) + "\n")
    else:
        stdout.write(table.text(found.times))
    if not found.fits:
        fitting = f"it fits with {', or '.join(found.would_fit)}"
        raise BudgetError(f"{found.lacks}; {fitting if found.would_fit else 'use a smaller model'}")


def parse_size(text: str, what: str) -> int:
    """A whole number: k, M, G, T, P are powers of 1,000, Ki to Pi of 1,024; a B may follow.

    Raises UsageError that names `what`.
    """
    match = _SIZE.fullmatch(text.strip().replace(",", "").replace("_", ""))
    if match is not None:
        number, unit, binary = match.groups()
        power = (1024 if binary else 1000) ** _POWERS[unit.lower()]
        value: int = round(Fraction(number) * power)
        if 0 < value <= _LARGEST and (unit or not binary):
            return value
    raise UsageError(f"{what} is a size such as 512G, 80Gi or 1M, not {ascii(text)[:40]}")


def _size(text: str | None, what: str) -> int | None:
    return None if text is None else parse_size(text, what)


def _told_rates(texts: Sequence[str]) -> dict[str, float]:
    values: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in RATES:
            raise UsageError(
                f"--rate is NAME=SIZE with a NAME of {', '.join(RATES)}, not {ascii(text)[:40]}"
            )
        values[name] = float(parse_size(value, f"--rate {name}"))
    return values
