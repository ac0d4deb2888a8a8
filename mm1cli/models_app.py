"""The group `mm1 models`, and the wiring of `mm1 models plan`: typer only."""

import sys
from typing import Annotated

import typer

from mm1cli.options import ChunkTokens, Device, Json, Kv, ModelName, NoCache, Threads
from mm1cli.session import command

models_app = typer.Typer(help="List, fetch, plan and check models.", no_args_is_help=True)

_MACHINE = "Machine"

Context = Annotated[
    str | None,
    typer.Option(metavar="TOKENS", help="Such as 1M. [what the model knows]"),
]
Ram = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE", help="Memory, such as 512G. [what is free]", rich_help_panel=_MACHINE
    ),
]
Gpus = Annotated[
    list[str] | None,
    typer.Option(
        "--gpu",
        metavar="SIZE",
        help="A GPU with so much memory, such as 80G. Repeat it.",
        rich_help_panel=_MACHINE,
    ),
]
Disk = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Room on disk. [what is free]", rich_help_panel=_MACHINE),
]
Weights = Annotated[
    str, typer.Option(metavar="PRECISION", help="As if they were: stored, int8 or int4.")
]
RateOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--rate",
        metavar="NAME=SIZE",
        help="Per second: product, attention (operations); memory, int8, int4, read, write, link "
        "(bytes). Repeat it.",
        rich_help_panel=_MACHINE,
    ),
]
Measure = Annotated[
    bool,
    typer.Option("--measure", help="Measure this machine again.", rich_help_panel=_MACHINE),
]


@models_app.command()
def plan(
    name: ModelName,
    context: Context = None,
    ram: Ram = None,
    gpu: Gpus = None,
    disk: Disk = None,
    weights: Weights = "stored",
    rate: RateOptions = None,
    measure: Measure = False,
    device: Device = None,
    threads: Threads = None,
    chunk_tokens: ChunkTokens = None,
    kv: Kv = None,
    no_cache: NoCache = None,
    as_json: Json = False,
) -> None:
    """What a context takes on a machine: bytes, driver, time. Needs no weights; exit 4 if none."""
    flags = {
        "device": device,
        "threads": threads,
        "chunk_tokens": chunk_tokens,
        "kv": kv,
        "no_cache": no_cache,
    }
    with command(flags) as (settings, _):
        from mm1cli.commands import models_plan

        asked = models_plan.Asked(context, ram, gpu or (), disk, weights, rate or (), measure)
        models_plan.run(name, asked, settings, sys.stdout, as_json=as_json)
