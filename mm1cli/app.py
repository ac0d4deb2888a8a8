"""The command line: typer wiring only. Importing this must not import torch."""

import sys

if __name__ == "__main__":  # python -m mm1cli.app
    from mm1cli.__main__ import main as entry

    entry()
    sys.exit()

import typer

from mm1cli.app_models import models_app
from mm1cli.errors import ExitCode, UsageError
from mm1cli.options import (
    AllowSecrets,
    AlwaysAnswer,
    Ask,
    Baseline,
    Category,
    ChunkTokens,
    ContextName,
    ContextNames,
    ContextPath,
    ContextTokens,
    Device,
    Diff,
    DryRun,
    Exclude,
    FailOn,
    FilesFrom,
    Findings,
    Fit,
    Focus,
    Include,
    Json,
    Kv,
    MaxCache,
    MaxFindings,
    MaxThinking,
    MaxTokens,
    Model,
    NoCache,
    Null,
    Ocr,
    OnlyPaths,
    Output,
    OutputFormat,
    Paths,
    Questions,
    Quiet,
    ReportFile,
    ReviewFormat,
    ReviewPaths,
    Schema,
    Seed,
    Severity,
    Strict,
    StrictCitations,
    Surprise,
    Temperature,
    Template,
    TemplateName,
    Think,
    Threads,
    TopP,
    UpdateBaseline,
)
from mm1cli.output import Format, make_sink
from mm1cli.session import command_scope

app = typer.Typer(
    name="mm1",
    help="Read a pile of documents into one context and ask about it, offline.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
context_app = typer.Typer(help="Build, list and check saved contexts.", no_args_is_help=True)
templates_app = typer.Typer(help="List and show templates of questions.", no_args_is_help=True)
app.add_typer(templates_app, name="templates")
app.add_typer(models_app, name="models")
app.add_typer(context_app, name="context")


@app.command()
def analyze(
    paths: Paths = None,
    ask: Ask = None,
    template: Template = None,
    dry_run: DryRun = False,
    context_tokens: ContextTokens = None,
    include: Include = None,
    exclude: Exclude = None,
    files_from: FilesFrom = None,
    null: Null = False,
    fit: Fit = None,
    focus: Focus = None,
    allow_secrets: AllowSecrets = None,
    ocr: Ocr = None,
    no_cache: NoCache = None,
    max_cache: MaxCache = None,
    strict: Strict = None,
    model: Model = None,
    device: Device = None,
    threads: Threads = None,
    chunk_tokens: ChunkTokens = None,
    kv: Kv = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    seed: Seed = None,
    schema: Schema = None,
    think: Think = None,
    max_thinking: MaxThinking = None,
    always_answer: AlwaysAnswer = None,
    strict_citations: StrictCitations = None,
    as_json: Json = False,
    output_format: OutputFormat = None,
    report: ReportFile = None,
    quiet: Quiet = None,
) -> None:
    """Read documents and answer questions about them, with evidence."""
    flags = {
        "model": model,
        "device": device,
        "threads": threads,
        "chunk_tokens": chunk_tokens,
        "kv": kv,
        "context_tokens": context_tokens,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "schema": schema,
        "think": think,
        "max_thinking": max_thinking,
        "fit": fit,
        "focus": focus,
        "allow_secrets": allow_secrets,
        "ocr": ocr,
        "no_cache": no_cache,
        "max_cache": max_cache,
        "strict": strict,
        "always_answer": always_answer,
        "strict_citations": strict_citations,
        "quiet": quiet,
    }
    with command_scope(flags, as_json=as_json, output_format=output_format, report=report) as (
        settings,
        sink,
    ):
        from mm1cli.commands.reading import Sources

        sources = Sources(paths or (), include or (), exclude or (), files_from, null)
        if dry_run and report is not None:
            raise UsageError("--report is about answers, and --dry-run gives none; choose one")
        if dry_run:
            from mm1cli.commands import tokens as dry

            dry.run("analyze", sources, ask or [], settings, sink, template)
        else:
            from mm1cli.commands import analyze as full

            full.run(sources, ask or [], settings, sink, template)


@app.command()
def review(
    paths: ReviewPaths = None,
    diff: Diff = False,
    focus: Category = None,
    severity: Severity = None,
    max_findings: MaxFindings = None,
    only_paths: OnlyPaths = None,
    surprise: Surprise = False,
    findings: Findings = False,
    fail_on: FailOn = None,
    baseline: Baseline = None,
    update_baseline: UpdateBaseline = False,
    context_tokens: ContextTokens = None,
    include: Include = None,
    exclude: Exclude = None,
    files_from: FilesFrom = None,
    null: Null = False,
    fit: Fit = None,
    allow_secrets: AllowSecrets = None,
    no_cache: NoCache = None,
    max_cache: MaxCache = None,
    strict: Strict = None,
    model: Model = None,
    device: Device = None,
    threads: Threads = None,
    chunk_tokens: ChunkTokens = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    seed: Seed = None,
    max_thinking: MaxThinking = None,
    as_json: Json = False,
    output_format: ReviewFormat = None,
    report: ReportFile = None,
    quiet: Quiet = None,
) -> None:
    """Review a repository, or a change to it: what is improbable, and findings that are checked."""
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
        "max_thinking": max_thinking,
        "fit": fit,
        "allow_secrets": allow_secrets,
        "no_cache": no_cache,
        "max_cache": max_cache,
        "strict": strict,
        "quiet": quiet,
    }
    formats: tuple[Format, ...] = ("text", "json", "jsonl", "sarif", "github", "markdown")
    with command_scope(
        flags, as_json=as_json, output_format=output_format, report=report, formats=formats
    ) as (settings, sink):
        from mm1cli.commands import review as reviewing
        from mm1cli.commands.reading import Sources
        from mm1cli.review.options import ReviewFlags

        # What to read is the current folder where nothing is named.
        named = paths or ([] if files_from else ["."])
        sources = Sources(named, include or (), exclude or (), files_from, null)
        options = ReviewFlags(
            diff=diff,
            category=focus or (),
            severity=severity,
            max_findings=max_findings,
            paths=only_paths or (),
            surprise=surprise,
            findings=findings,
            fail_on=fail_on,
            baseline=baseline,
            update_baseline=update_baseline,
        )
        reviewing.run(sources, options, settings, sink)


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
    with command_scope(flags, as_json=as_json, output_format=output_format) as (settings, sink):
        from mm1cli.commands import tokens as counting
        from mm1cli.commands.reading import Sources

        sources = Sources(paths or (), include or (), exclude or (), files_from, null)
        counting.run("tokens", sources, ask or [], settings, sink)


@app.command()
def ask(
    context: ContextPath,
    questions: Questions = None,
    more: Ask = None,
    model: Model = None,
    device: Device = None,
    threads: Threads = None,
    focus: Focus = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    seed: Seed = None,
    schema: Schema = None,
    think: Think = None,
    max_thinking: MaxThinking = None,
    always_answer: AlwaysAnswer = None,
    strict_citations: StrictCitations = None,
    as_json: Json = False,
    output_format: OutputFormat = None,
    report: ReportFile = None,
    quiet: Quiet = None,
) -> None:
    """Answer questions about a saved context; nothing is read again."""
    flags = {
        "model": model,
        "device": device,
        "threads": threads,
        "focus": focus,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "schema": schema,
        "think": think,
        "max_thinking": max_thinking,
        "always_answer": always_answer,
        "strict_citations": strict_citations,
        "quiet": quiet,
    }
    with command_scope(flags, as_json=as_json, output_format=output_format, report=report) as (
        settings,
        sink,
    ):
        from mm1cli.commands import ask as asking

        asking.run(context, [*(questions or ()), *(more or ())], settings, sink)


@context_app.command("build")
def build_context(
    output: Output,
    paths: Paths = None,
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
    kv: Kv = None,
    as_json: Json = False,
    quiet: Quiet = None,
) -> None:
    """Read documents into a context and save it; the same command goes on after a stop."""
    flags = {
        "model": model,
        "device": device,
        "threads": threads,
        "chunk_tokens": chunk_tokens,
        "kv": kv,
        "context_tokens": context_tokens,
        "fit": fit,
        "allow_secrets": allow_secrets,
        "ocr": ocr,
        "no_cache": no_cache,
        "strict": strict,
        "quiet": quiet,
    }
    with command_scope(flags, json_errors=as_json) as (settings, sink):
        from mm1cli.commands import context
        from mm1cli.commands.reading import Sources

        sources = Sources(paths or (), include or (), exclude or (), files_from, null)
        context.build(sources, output, settings, sink, sys.stdout, as_json=as_json)


@context_app.command("list")
def list_contexts(as_json: Json = False) -> None:
    """The contexts that analyze keeps by itself, and what they take."""
    with command_scope({}, json_errors=as_json) as (settings, _):
        from mm1cli.commands import context

        context.show_list(settings, sys.stdout, as_json=as_json)


@context_app.command("show")
def show_context(name: ContextName, as_json: Json = False) -> None:
    """What a context holds and what made it."""
    with command_scope({}, json_errors=as_json) as (settings, _):
        from mm1cli.commands import context

        context.show(name, settings, sys.stdout, as_json=as_json)


@context_app.command("verify")
def verify_context(name: ContextName, as_json: Json = False) -> None:
    """Read every byte of a context and hold it against its checksum."""
    with command_scope({}, json_errors=as_json) as (settings, _):
        from mm1cli.commands import context

        context.verify(name, settings, sys.stdout, as_json=as_json)


@context_app.command("rm")
def remove_contexts(names: ContextNames) -> None:
    """Remove saved contexts."""
    with command_scope({}) as (settings, _):
        from mm1cli.commands import context

        context.remove_all(names, settings, sys.stdout)


@context_app.command("gc")
def collect_contexts(max_cache: MaxCache = None) -> None:
    """Remove kept contexts, the longest unused first, until all fit --max-cache."""
    with command_scope({"max_cache": max_cache}) as (settings, _):
        from mm1cli.commands import context

        context.collect(settings, sys.stdout)


@templates_app.command("list")
def list_templates(as_json: Json = False) -> None:
    """The templates there are: those of mm1, and your own."""
    with command_scope({}, json_errors=as_json):
        from mm1cli.commands import templates

        templates.show_list(sys.stdout, as_json=as_json)


@templates_app.command("show")
def show_template(name: TemplateName) -> None:
    """Print a template: redirect it to a file, and change it."""
    with command_scope({}):
        from mm1cli.commands import templates

        templates.show(name, sys.stdout)


def run() -> None:
    """What `mm1cli.__main__` runs: usage errors in one line, too."""
    try:
        sys.exit(app(standalone_mode=False))
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


def main() -> None:
    """As `mm1cli.__main__`, for scripts installed when this was the entry point."""
    from mm1cli.__main__ import main as entry

    entry()
