"""The command line: typer wiring only. Importing this must not import torch."""

import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from mm1cli.errors import ExitCode
from mm1cli.output import make_sink
from mm1cli.session import Terminated, command

app = typer.Typer(
    name="mm1",
    help="Read a pile of documents into one context and ask about it, offline.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
models_app = typer.Typer(help="List, fetch and check models.", no_args_is_help=True)
app.add_typer(models_app, name="models")

_READING = "Reading"
_MODEL = "Model"
_ANSWER = "Answer"
_OUTPUT = "Output"

Paths = Annotated[
    list[str] | None,
    typer.Argument(help="Files and folders; - reads standard input.", show_default=False),
]
Ask = Annotated[
    list[str] | None,
    typer.Option("--ask", "-q", help="A question. Repeat it for more.", rich_help_panel=_ANSWER),
]
Model = Annotated[
    str | None,
    typer.Option(help="Name or folder of the model. [mini]", rich_help_panel=_MODEL),
]
Device = Annotated[str | None, typer.Option(help="cpu or cuda. [cpu]", rich_help_panel=_MODEL)]
Threads = Annotated[int | None, typer.Option(help="CPU threads.", rich_help_panel=_MODEL)]
ChunkTokens = Annotated[
    int | None, typer.Option(help="Tokens per prefill step. [1024]", rich_help_panel=_MODEL)
]
ContextTokens = Annotated[
    int | None,
    typer.Option(help="Largest context. [what the model knows]", rich_help_panel=_READING),
]
Strict = Annotated[
    bool | None,
    typer.Option("--strict", help="Exit 5 if anything was not read.", rich_help_panel=_READING),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GLOB", help="Read only these. Repeat for more.", rich_help_panel=_READING
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="GLOB", help="Leave these out. Repeat.", rich_help_panel=_READING),
]
FilesFrom = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Read the paths listed in FILE, or -.", rich_help_panel=_READING
    ),
]
Null = Annotated[
    bool, typer.Option("-0", help="--files-from ends paths with NUL.", rich_help_panel=_READING)
]
Fit = Annotated[
    str | None,
    typer.Option(
        metavar="POLICY",
        help="If it does not fit: focus, fail, drop-largest or head. [focus]",
        rich_help_panel=_READING,
    ),
]
AllowSecrets = Annotated[
    bool | None,
    typer.Option("--allow-secrets", help="Read files with keys in.", rich_help_panel=_READING),
]
Ocr = Annotated[
    bool | None,
    typer.Option("--ocr", help="Read scans with tesseract.", rich_help_panel=_READING),
]
NoCache = Annotated[
    bool | None,
    typer.Option("--no-cache", help="Extract all text again.", rich_help_panel=_READING),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Show what would be read, load no model.", rich_help_panel=_READING
    ),
]
MaxTokens = Annotated[
    int | None, typer.Option(help="Longest answer, in tokens. [256]", rich_help_panel=_ANSWER)
]
Temperature = Annotated[
    float | None, typer.Option(help="0 always takes the likeliest. [0]", rich_help_panel=_ANSWER)
]
TopP = Annotated[
    float | None, typer.Option(help="Nucleus to sample from. [0.95]", rich_help_panel=_ANSWER)
]
Seed = Annotated[int | None, typer.Option(help="Of sampling. [0]", rich_help_panel=_ANSWER)]
StrictCitations = Annotated[
    bool | None,
    typer.Option(
        "--strict-citations",
        help="Exit 6 if the answer says what no document says.",
        rich_help_panel=_ANSWER,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object.", rich_help_panel=_OUTPUT)]
OutputFormat = Annotated[
    str | None, typer.Option("--format", help="text, json or jsonl.", rich_help_panel=_OUTPUT)
]
Quiet = Annotated[
    bool | None, typer.Option("--quiet", help="No notes, no progress.", rich_help_panel=_OUTPUT)
]
ModelName = Annotated[str, typer.Argument(help="Name or folder of a model.")]
Chunks = Annotated[
    list[int] | None, typer.Option("--chunk", help="Prefill chunk to try. Repeat for more.")
]


@app.command()
def analyze(
    paths: Paths = None,
    ask: Ask = None,
    dry_run: DryRun = False,
    context_tokens: ContextTokens = None,
    include: Include = None,
    exclude: Exclude = None,
    files_from: FilesFrom = None,
    null: Null = False,
    fit: Fit = None,
    allow_secrets: AllowSecrets = None,
    ocr: Ocr = None,
    no_cache: NoCache = None,
    strict: Strict = None,
    model: Model = None,
    device: Device = None,
    threads: Threads = None,
    chunk_tokens: ChunkTokens = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    seed: Seed = None,
    strict_citations: StrictCitations = None,
    as_json: Json = False,
    output_format: OutputFormat = None,
    quiet: Quiet = None,
) -> None:
    """Read documents and answer questions about them, with evidence."""
    flags = {
        "model": model,
        "device": device,
        "threads": threads,
        "chunk_tokens": chunk_tokens,
        "context_tokens": context_tokens,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "fit": fit,
        "allow_secrets": allow_secrets,
        "ocr": ocr,
        "no_cache": no_cache,
        "strict": strict,
        "strict_citations": strict_citations,
        "quiet": quiet,
    }
    with command(flags, as_json=as_json, output_format=output_format) as (settings, sink):
        from mm1cli.commands.reading import Sources

        sources = Sources(paths or (), include or (), exclude or (), files_from, null)
        if dry_run:
            from mm1cli.commands import tokens as dry

            dry.run("analyze", sources, ask or [], settings, sink)
        else:
            from mm1cli.commands import analyze as full

            full.run(sources, ask or [], settings, sink)


@app.command()
def tokens(
    paths: Paths = None,
    ask: Ask = None,
    context_tokens: ContextTokens = None,
    include: Include = None,
    exclude: Exclude = None,
    files_from: FilesFrom = None,
    null: Null = False,
    fit: Fit = None,
    allow_secrets: AllowSecrets = None,
    ocr: Ocr = None,
    no_cache: NoCache = None,
    strict: Strict = None,
    model: Model = None,
    max_tokens: MaxTokens = None,
    as_json: Json = False,
    output_format: OutputFormat = None,
    quiet: Quiet = None,
) -> None:
    """Count the tokens of documents: every file seen, read or left out and why."""
    flags = {
        "model": model,
        "context_tokens": context_tokens,
        "max_tokens": max_tokens,
        "fit": fit,
        "allow_secrets": allow_secrets,
        "ocr": ocr,
        "no_cache": no_cache,
        "strict": strict,
        "quiet": quiet,
    }
    with command(flags, as_json=as_json, output_format=output_format) as (settings, sink):
        from mm1cli.commands import tokens as counting
        from mm1cli.commands.reading import Sources

        sources = Sources(paths or (), include or (), exclude or (), files_from, null)
        counting.run("tokens", sources, ask or [], settings, sink)


@models_app.command("list")
def list_models(as_json: Json = False) -> None:
    """The models there are, and whether they are installed."""
    with command({}):
        from mm1cli.commands import models

        models.show_list(sys.stdout, as_json=as_json)


@models_app.command()
def show(name: ModelName, as_json: Json = False) -> None:
    """What a model is: its family, layers and sizes."""
    with command({}):
        from mm1cli.commands import models

        models.show(name, sys.stdout, as_json=as_json)


@models_app.command()
def pull(name: ModelName = "mini", quiet: Quiet = None) -> None:
    """Fetch a model once; everything afterwards is offline."""
    with command({"quiet": quiet}) as (_, sink):
        from mm1cli.commands import models

        models.pull(name, sys.stdout, sink)


@models_app.command()
def verify(name: ModelName, chunk: Chunks = None, as_json: Json = False) -> None:
    """Recompute a model's recorded outputs (expected.safetensors), or check its files."""
    with command({}):
        from mm1cli.commands import models

        models.verify(name, chunk or (), sys.stdout, as_json=as_json)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated


def main() -> None:
    """Entry point of `mm1`: usage errors in one line, too."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app(standalone_mode=False)
    except typer.Abort:
        sys.exit(ExitCode.INTERRUPTED)
    except Exception as error:
        # A usage error of typer's parser; its class has moved between releases.
        if not hasattr(error, "format_message"):
            raise
        if message := error.format_message():  # else the help was shown, and says it all
            sink = make_sink("json" if "--json" in sys.argv else "text", False)
            sink.error(f"{message.rstrip('.')}; see mm1 --help", ExitCode.USAGE)
            sink.close()
        sys.exit(ExitCode.USAGE)
