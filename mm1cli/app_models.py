"""The group `mm1 models`: typer wiring only."""

import sys
from typing import Annotated

import typer

import mm1cli.options as o
from mm1cli.help import App
from mm1cli.session import command_scope
from mm1cli.settings import flags_of

models_app = App("Find, fetch, choose, plan, quantise, import and check models.")

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
def list_models(as_json: o.Json = False) -> None:
    """The models mm1 has or comes with, and which one runs where none is named."""
    with command_scope({}, json_errors=as_json) as (settings, _):
        from mm1cli.commands import models_list

        models_list.show_list(settings, sys.stdout, as_json=as_json)


@models_app.command()
def find(models_dir: o.ModelsDir = None, as_json: o.Json = False, quiet: o.Quiet = None) -> None:
    """Models of other programs on this machine: hub caches, Ollama, LM Studio, a folder."""
    with command_scope(flags_of(locals()), json_errors=as_json) as (settings, sink):
        from mm1cli.commands import models_list

        models_list.find(settings, sys.stdout, sink, as_json=as_json)


@models_app.command()
def catalogue(as_json: o.Json = False) -> None:
    """Models worth fetching: for which machine, size, licence, context, what was measured."""
    with command_scope({}, json_errors=as_json):
        from mm1cli.commands import models_list

        models_list.show_catalogue(sys.stdout, as_json=as_json)


@models_app.command()
def show(name: o.ModelName, models_dir: o.ModelsDir = None, as_json: o.Json = False) -> None:
    """What a model is: its family, layers and sizes."""
    with command_scope(flags_of(locals()), json_errors=as_json) as (settings, _):
        from mm1cli.commands import models

        models.show(name, settings, sys.stdout, as_json=as_json)


@models_app.command()
def pull(
    name: o.PulledName = "small",
    file: o.FilePattern = None,
    models_dir: o.ModelsDir = None,
    quiet: o.Quiet = None,
) -> None:
    """Fetch a model once, or check the one that is here; everything afterwards is offline."""
    with command_scope(flags_of(locals())) as (settings, sink):
        from mm1cli.commands import models

        models.pull(name, file, settings, sys.stdout, sink)


@models_app.command()
def use(name: o.UsedName, models_dir: o.ModelsDir = None) -> None:
    """Set the model of runs that name none; auto takes the largest installed that fits."""
    with command_scope(flags_of(locals())) as (settings, sink):
        from mm1cli.commands import models

        models.use(name, settings, sys.stdout, sink)


@models_app.command()
def rm(names: o.ModelNames) -> None:
    """Remove models that mm1 has fetched, and nothing that other programs keep."""
    with command_scope({}) as (settings, _):
        from mm1cli.commands import models

        models.remove(names, settings, sys.stdout)


@models_app.command()
def calibrate(
    name: o.ModelName,
    offline: o.Offline = None,
    threads: o.Threads = None,
    chunk_tokens: o.ChunkTokens = None,
    models_dir: o.ModelsDir = None,
    as_json: o.Json = False,
    quiet: o.Quiet = None,
) -> None:
    """Measure how a model selects from more text than it was trained for: --fit select."""
    flags = flags_of(locals()) | {"model": name}
    with command_scope(flags, json_errors=as_json, saved=_STARTS_ANEW) as (settings, sink):
        from mm1cli.commands import calibrate

        calibrate.run(settings, sink, sys.stdout, as_json=as_json)


@models_app.command()
def plan(
    name: o.ModelName,
    context: Context = None,
    ram: Ram = None,
    gpu: Gpus = None,
    disk: Disk = None,
    weights: Weights = "stored",
    rate: RateOptions = None,
    measure: Measure = False,
    device: o.Device = None,
    threads: o.Threads = None,
    chunk_tokens: o.ChunkTokens = None,
    kv: o.Kv = None,
    models_dir: o.ModelsDir = None,
    no_cache: o.NoCache = None,
    as_json: o.Json = False,
) -> None:
    """What a context takes on a machine: bytes, driver, time. Needs no weights; exit 4 if none."""
    flags = flags_of(locals())
    with command_scope(flags, json_errors=as_json) as (settings, _):
        from mm1cli.commands import models_plan

        asked = models_plan.PlanFlags(context, ram, gpu or (), disk, weights, rate or (), measure)
        models_plan.run(name, asked, settings, sys.stdout, as_json=as_json)


@models_app.command()
def quantize(
    name: o.ModelName,
    output: o.NewModel,
    to: o.Form,
    group: o.Group = None,
    check: o.Check = None,
    text: o.CheckText = None,
    models_dir: o.ModelsDir = None,
    as_json: o.Json = False,
    quiet: o.Quiet = None,
) -> None:
    """Write a model again with its matrices in int8 or int4, and say what that changed."""
    flags = flags_of(locals())
    with command_scope(flags, json_errors=as_json, saved=_STARTS_ANEW) as (settings, sink):
        from mm1cli.commands import weights

        weights.quantize(
            name,
            output,
            to,
            group,
            settings,
            sink,
            sys.stdout,
            check=check,
            text=text,
            as_json=as_json,
        )


@models_app.command("import")
def import_model(
    file: o.GgufFile,
    output: o.NewModel,
    to: o.ImportForm = None,
    group: o.Group = None,
    models_dir: o.ModelsDir = None,
    as_json: o.Json = False,
    quiet: o.Quiet = None,
) -> None:
    """Make a model of a GGUF file: MiniMax-01 and M1, or Llama-shaped."""
    flags = flags_of(locals())
    with command_scope(flags, json_errors=as_json, saved=_STARTS_ANEW) as (settings, sink):
        from mm1cli.commands import weights

        weights.import_gguf(file, output, to, group, settings, sink, sys.stdout, as_json=as_json)


@models_app.command()
def verify(
    name: o.ModelName,
    chunk: o.Chunks = None,
    models_dir: o.ModelsDir = None,
    as_json: o.Json = False,
) -> None:
    """Recompute a model's recorded outputs (expected.safetensors), or check its files."""
    with command_scope(flags_of(locals()), json_errors=as_json) as (settings, _):
        from mm1cli.commands import models

        models.verify(name, chunk or (), settings, sys.stdout, as_json=as_json)
