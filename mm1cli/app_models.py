"""The group `mm1 models`: typer wiring only."""

import sys
from typing import Annotated

import typer

from mm1cli.options import (
    Check,
    CheckText,
    Chunks,
    ChunkTokens,
    Device,
    Form,
    GgufFile,
    Group,
    ImportForm,
    Json,
    Kv,
    ModelName,
    NewModel,
    NoCache,
    Quiet,
    Threads,
)
from mm1cli.session import command_scope

models_app = typer.Typer(
    help="List, fetch, plan, quantise, import and check models.", no_args_is_help=True
)

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


_STARTS_ANEW = "nothing is kept; the same command starts anew"


@models_app.command("list")
def list_models(as_json: Json = False) -> None:
    """The models there are, and whether they are installed."""
    with command_scope({}, json_errors=as_json):
        from mm1cli.commands import models

        models.show_list(sys.stdout, as_json=as_json)


@models_app.command()
def show(name: ModelName, as_json: Json = False) -> None:
    """What a model is: its family, layers and sizes."""
    with command_scope({}, json_errors=as_json):
        from mm1cli.commands import models

        models.show(name, sys.stdout, as_json=as_json)


@models_app.command()
def pull(name: ModelName = "mini", quiet: Quiet = None) -> None:
    """Fetch a model once; everything afterwards is offline."""
    with command_scope({"quiet": quiet}) as (_, sink):
        from mm1cli.commands import models

        models.pull(name, sys.stdout, sink)


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
    with command_scope(flags, json_errors=as_json) as (settings, _):
        from mm1cli.commands import models_plan

        asked = models_plan.PlanFlags(context, ram, gpu or (), disk, weights, rate or (), measure)
        models_plan.run(name, asked, settings, sys.stdout, as_json=as_json)


@models_app.command()
def quantize(
    name: ModelName,
    output: NewModel,
    to: Form,
    group: Group = None,
    check: Check = None,
    text: CheckText = None,
    as_json: Json = False,
    quiet: Quiet = None,
) -> None:
    """Write a model again with its matrices in int8 or int4, and say what that changed."""
    with command_scope({"quiet": quiet}, json_errors=as_json, saved=_STARTS_ANEW) as (_, sink):
        from mm1cli.commands import weights

        weights.quantize(
            name, output, to, group, sink, sys.stdout, check=check, text=text, as_json=as_json
        )


@models_app.command("import")
def import_model(
    file: GgufFile,
    output: NewModel,
    to: ImportForm = None,
    group: Group = None,
    as_json: Json = False,
    quiet: Quiet = None,
) -> None:
    """Make a model of a GGUF file: MiniMax-01 and M1, or Llama-shaped."""
    with command_scope({"quiet": quiet}, json_errors=as_json, saved=_STARTS_ANEW) as (_, sink):
        from mm1cli.commands import weights

        weights.import_gguf(file, output, to, group, sink, sys.stdout, as_json=as_json)


@models_app.command()
def verify(name: ModelName, chunk: Chunks = None, as_json: Json = False) -> None:
    """Recompute a model's recorded outputs (expected.safetensors), or check its files."""
    with command_scope({}, json_errors=as_json):
        from mm1cli.commands import models

        models.verify(name, chunk or (), sys.stdout, as_json=as_json)
