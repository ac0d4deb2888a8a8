"""`mm1 models plan`: what a context of a model takes on a machine, before anything is done."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TextIO

from mm1cli.commands.opening import cache_root
from mm1cli.errors import BudgetError, UsageError
from mm1cli.models import library
from mm1cli.output.plan_table import Table
from mm1cli.settings import Settings
from mm1cli.sizes import parse

if TYPE_CHECKING:
    from engine.placement.machine_rates import Rates

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
    num_tokens, ram = _size(asked.context, "--context"), _size(asked.ram, "--ram")
    disk, gpus = _size(asked.disk, "--disk"), [parse(text, "--gpu") for text in asked.gpus]
    told = _told_rates(asked.rates)
    from engine import placement
    from engine.engine import read_config
    from engine.placement import what_if
    from engine.placement.estimate import times
    from engine.placement.weight_bytes import as_if
    from engine.quantized.forms import USUAL

    path = library.resolve(name)
    config = read_config(path)
    outline = placement.outline(path, config)
    if asked.weights != "stored":
        config = as_if(config, USUAL[asked.weights])
    question = what_if.Question(
        config,
        what_if.described(ram, gpus, disk, device=settings.device, folder=path),
        num_tokens or config.max_positions,
        settings.chunk_tokens,
        settings.kv,
        is_mapped=not settings.no_cache,
        precision=outline.precision,
    )
    plan = question.plan()
    measured = what_if.measured(
        cache_root(settings),
        outline,
        question.machine,
        threads=settings.threads,
        again=asked.measure,
    )
    rates = told.over(measured.rates)
    sizes = placement.weights_bytes(config, outline)
    table = Table(name, outline, plan, question.num_tokens, sizes, rates, measured.date)
    taken = times(plan, rates)
    fits = plan.fits_and_is_saved
    why_not = "" if fits else placement.lacking(plan)
    advice = [] if fits else question.remedies()
    if as_json:
        facts = table.as_json() | {"fits": fits, "lacks": why_not or None, "would_fit": advice}
        facts |= {"times": asdict(taken), "rates": asdict(rates)}
        stdout.write(json.dumps(facts | {"machine": asdict(question.machine)}) + "\n")
    else:
        stdout.write(table.text(taken))
    if not fits:
        hint = f"it fits with {', or '.join(advice)}" if advice else "use a smaller model"
        raise BudgetError(f"{why_not}; {hint}")


def _size(text: str | None, what: str) -> int | None:
    return None if text is None else parse(text, what)


def _told_rates(texts: Sequence[str]) -> "Rates":
    values: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in RATES:
            raise UsageError(
                f"--rate is NAME=SIZE with a NAME of {', '.join(RATES)}, not {ascii(text)[:40]}"
            )
        values[name] = float(parse(value, f"--rate {name}"))
    from engine.placement.machine_rates import Rates

    return Rates(**values)
