"""The command line: typer wiring only. Importing this must not import torch."""

import os
import sys
from typing import Annotated

import typer

import mm1cli.options as o
from mm1cli.about import version
from mm1cli.app_config import config_app
from mm1cli.app_logs import logs_app
from mm1cli.app_models import models_app
from mm1cli.app_server import server_app
from mm1cli.errors import ExitCode, UsageError
from mm1cli.help import App
from mm1cli.output import Format, make_sink
from mm1cli.session import command_scope
from mm1cli.settings import flags_of

_COMPLETE = "_MM1_COMPLETE"  # a shell asks for completions

app = App("Read a pile of documents into one context and ask about it, offline.")
context_app = App("Read documents once and keep them ready for mm1 ask: build, list, check.")
templates_app = App("List and show templates of questions.")
app.add_typer(context_app, name="context")
cache_app = App("See and remove what is kept of documents.")
app.add_typer(cache_app, name="cache")
app.add_typer(models_app, name="models")
app.add_typer(templates_app, name="templates")
app.add_typer(logs_app, name="logs")
app.add_typer(config_app, name="config")
app.add_typer(server_app, name="server")


def _tell_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"mm1 {version()}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", help="Print the version.", callback=_tell_version, is_eager=True),
]


@app.callback()
def options(show_version: Version = False) -> None:
    """Read a pile of documents into one context and ask about it, offline."""


@app.command()
def analyze(
    paths: o.PathsAndQuestion = None,
    ask: o.Ask = None,
    template: o.Template = None,
    dry_run: o.DryRun = False,
    context_tokens: o.ContextTokens = None,
    include: o.Include = None,
    exclude: o.Exclude = None,
    files_from: o.FilesFrom = None,
    null: o.Null = False,
    hidden: o.Hidden = False,
    no_gitignore: o.NoGitignore = False,
    offline: o.Offline = None,
    fit: o.Fit = None,
    focus: o.Focus = None,
    finder: o.Finder = None,
    search: o.Search = None,
    read_seconds: o.ReadSeconds = None,
    allow_secrets: o.AllowSecrets = None,
    ocr: o.Ocr = None,
    convert: o.Convert = None,
    no_cache: o.NoCache = None,
    max_cache: o.MaxCache = None,
    strict: o.Strict = None,
    model: o.Model = None,
    models_dir: o.ModelsDir = None,
    server: o.Server = None,
    server_kind: o.ServerKind = None,
    tokenizer: o.TokenizerOf = None,
    api_key_file: o.ApiKeyFile = None,
    device: o.Device = None,
    threads: o.Threads = None,
    chunk_tokens: o.ChunkTokens = None,
    kv: o.Kv = None,
    fast: o.Fast = None,
    max_tokens: o.MaxTokens = None,
    temperature: o.Temperature = None,
    top_p: o.TopP = None,
    seed: o.Seed = None,
    schema: o.Schema = None,
    think: o.Think = None,
    max_thinking: o.MaxThinking = None,
    always_answer: o.AlwaysAnswer = None,
    write: o.Write = None,
    strict_citations: o.StrictCitations = None,
    as_json: o.Json = False,
    output_format: o.OutputFormat = None,
    output: o.OutputFiles = None,
    report: o.ReportFile = None,
    answer_only: o.AnswerOnly = None,
    tool: o.Tool = None,
    tool_approve: o.ToolApprove = False,
    max_tool_calls: o.MaxToolCalls = None,
    mcp_file: o.McpFile = None,
    no_log: o.NoLog = None,
    quiet: o.Quiet = None,
) -> None:
    """Read documents and answer questions about them, with evidence."""
    flags = flags_of(locals())
    with command_scope(
        flags, as_json=as_json, output_format=output_format, output=output or (), report=report
    ) as (
        settings,
        sink,
    ):
        from mm1cli.commands.questions import with_question
        from mm1cli.commands.reading import Sources

        named, asks = with_question(paths or (), ask or ())
        sources = Sources(
            named, include or (), exclude or (), files_from, null, hidden, no_gitignore
        )
        if dry_run and (output or report is not None):
            raise UsageError("-o writes answers, and --dry-run gives none; choose one")
        if dry_run:
            from mm1cli.commands import tokens as dry

            dry.run("analyze", sources, asks, settings, sink, template)
        else:
            from mm1cli.commands import analyze as full
            from mm1cli.commands.tool_flags import tool_options

            with tool_options(
                tool, is_asked=tool_approve, most_calls=max_tool_calls, mcp_file=mcp_file
            ) as tools:
                full.run(sources, asks, settings, sink, template, tools)


@app.command()
def review(
    paths: o.ReviewPaths = None,
    diff: o.Diff = False,
    category: o.Category = None,
    refused: o.ReviewFocus = None,
    severity: o.Severity = None,
    max_findings: o.MaxFindings = None,
    only_paths: o.OnlyPaths = None,
    surprise: o.Surprise = False,
    findings: o.Findings = False,
    fail_on: o.FailOn = None,
    baseline: o.Baseline = None,
    update_baseline: o.UpdateBaseline = False,
    context_tokens: o.ContextTokens = None,
    include: o.Include = None,
    exclude: o.Exclude = None,
    files_from: o.FilesFrom = None,
    null: o.Null = False,
    hidden: o.Hidden = False,
    no_gitignore: o.NoGitignore = False,
    offline: o.Offline = None,
    fit: o.Fit = None,
    allow_secrets: o.AllowSecrets = None,
    no_cache: o.NoCache = None,
    max_cache: o.MaxCache = None,
    strict: o.Strict = None,
    model: o.Model = None,
    models_dir: o.ModelsDir = None,
    server: o.Server = None,
    server_kind: o.ServerKind = None,
    tokenizer: o.TokenizerOf = None,
    api_key_file: o.ApiKeyFile = None,
    device: o.Device = None,
    threads: o.Threads = None,
    chunk_tokens: o.ChunkTokens = None,
    fast: o.Fast = None,
    max_tokens: o.MaxTokens = None,
    temperature: o.Temperature = None,
    top_p: o.TopP = None,
    seed: o.Seed = None,
    max_thinking: o.MaxThinking = None,
    as_json: o.Json = False,
    output_format: o.ReviewFormat = None,
    output: o.ReviewOutput = None,
    report: o.ReportFile = None,
    quiet: o.Quiet = None,
) -> None:
    """Review a repository, or a change to it: what is improbable, and findings that are checked."""
    flags = flags_of(locals())
    formats: tuple[Format, ...] = ("text", "json", "jsonl", "sarif", "github", "markdown")
    with command_scope(
        flags,
        as_json=as_json,
        output_format=output_format,
        output=output or (),
        report=report,
        formats=formats,
    ) as (settings, sink):
        from mm1cli.commands import review as reviewing
        from mm1cli.commands.reading import Sources
        from mm1cli.review.options import ReviewFlags

        # What to read is the current folder where nothing is named.
        named = paths or ([] if files_from else ["."])
        sources = Sources(
            named, include or (), exclude or (), files_from, null, hidden, no_gitignore
        )
        options = ReviewFlags(
            diff=diff,
            category=category or (),
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


@app.command("map")
def map_documents(
    output: o.MapOutput,
    paths: o.Paths = None,
    ask: o.Ask = None,
    schema: o.Schema = None,
    shard: o.ShardOf = "1/1",
    jobs: o.Jobs = 1,
    group_by: o.GroupBy = "document",
    context_tokens: o.ContextTokens = None,
    include: o.Include = None,
    exclude: o.Exclude = None,
    files_from: o.FilesFrom = None,
    null: o.Null = False,
    hidden: o.Hidden = False,
    no_gitignore: o.NoGitignore = False,
    offline: o.Offline = None,
    fit: o.Fit = None,
    focus: o.Focus = None,
    search: o.Search = None,
    read_seconds: o.ReadSeconds = None,
    allow_secrets: o.AllowSecrets = None,
    ocr: o.Ocr = None,
    convert: o.Convert = None,
    no_cache: o.NoCache = None,
    strict: o.Strict = None,
    model: o.Model = None,
    models_dir: o.ModelsDir = None,
    server: o.Server = None,
    server_kind: o.ServerKind = None,
    tokenizer: o.TokenizerOf = None,
    api_key_file: o.ApiKeyFile = None,
    device: o.Device = None,
    threads: o.Threads = None,
    max_tokens: o.MaxTokens = None,
    temperature: o.Temperature = None,
    top_p: o.TopP = None,
    seed: o.Seed = None,
    max_thinking: o.MaxThinking = None,
    always_answer: o.AlwaysAnswer = None,
    write: o.Write = None,
    quiet: o.Quiet = None,
) -> None:
    """Ask each of many documents the same, a line of JSON for each; stopped, it goes on later."""
    with command_scope(flags_of(locals())) as (settings, sink):
        from mm1cli.commands import map as mapping
        from mm1cli.commands.reading import Sources
        from mm1cli.mapping.lines import Shard

        sources = Sources(
            paths or (), include or (), exclude or (), files_from, null, hidden, no_gitignore
        )
        options = mapping.MapOptions(output, Shard.of(shard), group_by, jobs)
        mapping.run(sources, ask or [], options, settings, sink)


@app.command()
def merge(
    files: o.MapFiles,
    output: o.MergedOutput = None,
    strict: o.StrictMerge = False,
    quiet: o.Quiet = None,
) -> None:
    """Put files of mm1 map together: every document once, and totals that add up."""
    with command_scope(flags_of({"quiet": quiet})) as (_, sink):
        from mm1cli.commands import merge as merging

        merging.run(files, output, sink, sys.stdout, strict=strict)


@app.command()
def tokens(
    paths: o.Paths = None,
    ask: o.Ask = None,
    context_tokens: o.ContextTokens = None,
    include: o.Include = None,
    exclude: o.Exclude = None,
    files_from: o.FilesFrom = None,
    null: o.Null = False,
    hidden: o.Hidden = False,
    no_gitignore: o.NoGitignore = False,
    offline: o.Offline = None,
    fit: o.Fit = None,
    allow_secrets: o.AllowSecrets = None,
    ocr: o.Ocr = None,
    convert: o.Convert = None,
    no_cache: o.NoCache = None,
    strict: o.Strict = None,
    model: o.Model = None,
    models_dir: o.ModelsDir = None,
    server: o.Server = None,
    server_kind: o.ServerKind = None,
    tokenizer: o.TokenizerOf = None,
    api_key_file: o.ApiKeyFile = None,
    text: o.TextFile = None,
    max_tokens: o.MaxTokens = None,
    as_json: o.Json = False,
    output_format: o.OutputFormat = None,
    quiet: o.Quiet = None,
) -> None:
    """Count the tokens of documents: every file seen, read or left out and why."""
    flags = flags_of(locals())
    with command_scope(flags, as_json=as_json, output_format=output_format) as (settings, sink):
        from mm1cli.commands import tokens as counting
        from mm1cli.commands.reading import Sources

        sources = Sources(
            paths or (), include or (), exclude or (), files_from, null, hidden, no_gitignore
        )
        counting.run("tokens", sources, ask or [], settings, sink, text=text)


@app.command()
def read(
    paths: o.Paths = None,
    include: o.Include = None,
    exclude: o.Exclude = None,
    files_from: o.FilesFrom = None,
    null: o.Null = False,
    hidden: o.Hidden = False,
    no_gitignore: o.NoGitignore = False,
    offline: o.Offline = None,
    allow_secrets: o.AllowSecrets = None,
    ocr: o.Ocr = None,
    convert: o.Convert = None,
    no_cache: o.NoCache = None,
    strict: o.Strict = None,
    threads: o.Threads = None,
    quiet: o.Quiet = None,
) -> None:
    """Print the text of documents as a model would get it, with pages, sheets and slides."""
    with command_scope(flags_of(locals())) as (settings, sink):
        from mm1cli.commands import read_text
        from mm1cli.commands.reading import Sources

        sources = Sources(
            paths or (), include or (), exclude or (), files_from, null, hidden, no_gitignore
        )
        read_text.run(sources, settings, sink)


@app.command()
def ask(
    context: o.ContextPath,
    questions: o.Questions = None,
    more: o.Ask = None,
    model: o.Model = None,
    models_dir: o.ModelsDir = None,
    server: o.Server = None,
    server_kind: o.ServerKind = None,
    tokenizer: o.TokenizerOf = None,
    api_key_file: o.ApiKeyFile = None,
    device: o.Device = None,
    threads: o.Threads = None,
    focus: o.Focus = None,
    search: o.Search = None,
    read_seconds: o.ReadSeconds = None,
    max_tokens: o.MaxTokens = None,
    temperature: o.Temperature = None,
    top_p: o.TopP = None,
    seed: o.Seed = None,
    schema: o.Schema = None,
    think: o.Think = None,
    max_thinking: o.MaxThinking = None,
    always_answer: o.AlwaysAnswer = None,
    write: o.Write = None,
    strict_citations: o.StrictCitations = None,
    as_json: o.Json = False,
    output_format: o.OutputFormat = None,
    output: o.OutputFiles = None,
    report: o.ReportFile = None,
    answer_only: o.AnswerOnly = None,
    tool: o.Tool = None,
    tool_approve: o.ToolApprove = False,
    max_tool_calls: o.MaxToolCalls = None,
    mcp_file: o.McpFile = None,
    offline: o.Offline = None,
    no_log: o.NoLog = None,
    quiet: o.Quiet = None,
) -> None:
    """Answer questions about a saved context; no document is read again."""
    flags = flags_of(locals())
    with command_scope(
        flags, as_json=as_json, output_format=output_format, output=output or (), report=report
    ) as (
        settings,
        sink,
    ):
        from mm1cli.commands import ask as asking
        from mm1cli.commands.tool_flags import tool_options

        with tool_options(
            tool, is_asked=tool_approve, most_calls=max_tool_calls, mcp_file=mcp_file
        ) as tools:
            texts = [*(questions or ()), *(more or ())]
            asking.run(context, texts, settings, sink, tools)


@app.command()
def chat(
    paths: o.ChatPaths = None,
    model: o.Model = None,
    context_tokens: o.ContextTokens = None,
    include: o.Include = None,
    exclude: o.Exclude = None,
    hidden: o.Hidden = False,
    no_gitignore: o.NoGitignore = False,
    offline: o.Offline = None,
    fit: o.Fit = None,
    focus: o.Focus = None,
    finder: o.Finder = None,
    search: o.Search = None,
    read_seconds: o.ReadSeconds = None,
    allow_secrets: o.AllowSecrets = None,
    ocr: o.Ocr = None,
    convert: o.Convert = None,
    no_cache: o.NoCache = None,
    max_cache: o.MaxCache = None,
    models_dir: o.ModelsDir = None,
    server: o.Server = None,
    server_kind: o.ServerKind = None,
    tokenizer: o.TokenizerOf = None,
    api_key_file: o.ApiKeyFile = None,
    device: o.Device = None,
    threads: o.Threads = None,
    chunk_tokens: o.ChunkTokens = None,
    kv: o.Kv = None,
    max_tokens: o.MaxTokens = None,
    temperature: o.Temperature = None,
    top_p: o.TopP = None,
    seed: o.Seed = None,
    think: o.Think = None,
    max_thinking: o.MaxThinking = None,
    always_answer: o.AlwaysAnswer = None,
    write: o.Write = None,
    tool: o.Tool = None,
    tool_approve: o.ToolApprove = False,
    max_tool_calls: o.MaxToolCalls = None,
    mcp_file: o.McpFile = None,
    no_log: o.NoLog = None,
    quiet: o.Quiet = None,
) -> None:
    """Ask in turn: about documents, a saved context, or, without paths, the model alone."""
    with command_scope(flags_of(locals())) as (settings, sink):
        from mm1cli.commands import chat as chatting
        from mm1cli.commands.reading import Sources
        from mm1cli.commands.tool_flags import tool_options

        sources = None
        if paths:
            sources = Sources(
                paths, include or (), exclude or (), hidden=hidden, no_gitignore=no_gitignore
            )
        with tool_options(
            tool, is_asked=tool_approve, most_calls=max_tool_calls, mcp_file=mcp_file
        ) as tools:
            chatting.run(sources, settings, sink, tools)


@app.command()
def mcp(
    paths: o.Paths = None,
    port: o.McpPort = None,
    include: o.Include = None,
    exclude: o.Exclude = None,
    hidden: o.Hidden = False,
    no_gitignore: o.NoGitignore = False,
    offline: o.Offline = None,
    allow_secrets: o.AllowSecrets = None,
    ocr: o.Ocr = None,
    convert: o.Convert = None,
    no_cache: o.NoCache = None,
    max_cache: o.MaxCache = None,
    model: o.Model = None,
    models_dir: o.ModelsDir = None,
    device: o.Device = None,
    threads: o.Threads = None,
    context_tokens: o.ContextTokens = None,
    finder: o.Finder = None,
    search: o.Search = None,
    read_seconds: o.ReadSeconds = None,
    max_tokens: o.MaxTokens = None,
    no_log: o.NoLog = None,
    quiet: o.Quiet = None,
) -> None:
    """Serve documents to agents over MCP: search, quotes and claims checked, questions answered."""
    with command_scope(flags_of(locals()), stdout_is_taken=True) as (settings, sink):
        from mm1cli.commands import mcp as serving
        from mm1cli.commands.reading import Sources

        sources = Sources(
            paths or (), include or (), exclude or (), hidden=hidden, no_gitignore=no_gitignore
        )
        serving.run(sources, settings, sink, port=port)


@app.command()
def serve(
    contexts: o.ServedContexts = None,
    host: o.Host = "127.0.0.1",
    port: o.Port = 8400,
    key_file: o.KeyFile = None,
    model: o.Model = None,
    models_dir: o.ModelsDir = None,
    device: o.Device = None,
    threads: o.Threads = None,
    chunk_tokens: o.ChunkTokens = None,
    kv: o.Kv = None,
    context_tokens: o.ContextTokens = None,
    offline: o.Offline = None,
    no_cache: o.NoCache = None,
    max_cache: o.MaxCache = None,
    max_tokens: o.MaxTokens = None,
    temperature: o.Temperature = None,
    top_p: o.TopP = None,
    seed: o.Seed = None,
    max_thinking: o.MaxThinking = None,
    quiet: o.Quiet = None,
) -> None:
    """Serve the model, and saved contexts, to clients of OpenAI's API on this machine."""
    with command_scope(flags_of(locals())) as (settings, sink):
        from mm1cli.commands import serve as serving

        serving.run(contexts or (), settings, sink, host=host, port=port, key_file=key_file)


@context_app.command("build")
def build_context(
    output: o.Output,
    paths: o.Paths = None,
    context_tokens: o.ContextTokens = None,
    include: o.Include = None,
    exclude: o.Exclude = None,
    files_from: o.FilesFrom = None,
    null: o.Null = False,
    hidden: o.Hidden = False,
    no_gitignore: o.NoGitignore = False,
    offline: o.Offline = None,
    fit: o.Fit = None,
    allow_secrets: o.AllowSecrets = None,
    ocr: o.Ocr = None,
    convert: o.Convert = None,
    no_cache: o.NoCache = None,
    strict: o.Strict = None,
    model: o.Model = None,
    models_dir: o.ModelsDir = None,
    server: o.Server = None,
    server_kind: o.ServerKind = None,
    tokenizer: o.TokenizerOf = None,
    api_key_file: o.ApiKeyFile = None,
    device: o.Device = None,
    threads: o.Threads = None,
    chunk_tokens: o.ChunkTokens = None,
    kv: o.Kv = None,
    fast: o.Fast = None,
    as_json: o.Json = False,
    quiet: o.Quiet = None,
) -> None:
    """Read documents into a context and save it; the same command goes on after a stop."""
    flags = flags_of(locals())
    with command_scope(flags, json_errors=as_json) as (settings, sink):
        from mm1cli.commands import context
        from mm1cli.commands.reading import Sources

        sources = Sources(
            paths or (), include or (), exclude or (), files_from, null, hidden, no_gitignore
        )
        context.build(sources, output, settings, sink, sys.stdout, as_json=as_json)


@context_app.command("list")
def list_contexts(as_json: o.Json = False) -> None:
    """The contexts that analyze keeps by itself, and what they take."""
    with command_scope({}, json_errors=as_json) as (settings, _):
        from mm1cli.commands import context

        context.show_list(settings, sys.stdout, as_json=as_json)


@context_app.command("show")
def show_context(name: o.ContextName, as_json: o.Json = False) -> None:
    """What a context holds and what made it."""
    with command_scope({}, json_errors=as_json) as (settings, _):
        from mm1cli.commands import context

        context.show(name, settings, sys.stdout, as_json=as_json)


@context_app.command("verify")
def verify_context(name: o.ContextName, as_json: o.Json = False) -> None:
    """Read every byte of a context and hold it against its checksum."""
    with command_scope({}, json_errors=as_json) as (settings, _):
        from mm1cli.commands import context

        context.verify(name, settings, sys.stdout, as_json=as_json)


@context_app.command("export")
def export_context(name: o.ContextName, output: o.NewFolder) -> None:
    """Copy a context to a folder for others, who can then read all its documents."""
    with command_scope({}) as (settings, _):
        from mm1cli.commands import context

        context.export(name, output, settings, sys.stdout)


@context_app.command("import")
def import_context(folder: o.ExportedContext, output: o.NewFolder) -> None:
    """Take in a context that others exported: what it says is trusted from then on."""
    with command_scope({}):
        from mm1cli.commands import context

        context.take_in(folder, output, sys.stdout)


@context_app.command("rm")
def remove_contexts(names: o.ContextNames) -> None:
    """Remove saved contexts."""
    with command_scope({}) as (settings, _):
        from mm1cli.commands import context

        context.remove_all(names, settings, sys.stdout)


@context_app.command("gc")
def collect_contexts(max_cache: o.MaxCache = None) -> None:
    """Remove kept contexts, the longest unused first, until all fit --max-cache."""
    with command_scope(flags_of(locals())) as (settings, _):
        from mm1cli.commands import context

        context.collect(settings, sys.stdout)


@cache_app.command("show")
def show_cache(as_json: o.Json = False) -> None:
    """What lies where, of which folders and documents."""
    with command_scope({}, json_errors=as_json) as (settings, _):
        from mm1cli.commands import cache

        cache.show(settings, sys.stdout, as_json=as_json)


@cache_app.command("clear")
def clear_cache(
    text: o.ClearText = False,
    contexts: o.ClearContexts = False,
    models: o.ClearModels = False,
    everything: o.ClearAll = False,
    older_than: o.OlderThan = None,
) -> None:
    """Remove what mm1 keeps of documents, and models it fetched."""
    with command_scope({}) as (settings, _):
        from mm1cli.commands import cache

        chosen = (one or everything for one in (text, contexts, models))
        cache.clear(cache.Wanted(*chosen), older_than, settings, sys.stdout)


@templates_app.command("list")
def list_templates(as_json: o.Json = False) -> None:
    """The templates there are: those of mm1, and your own."""
    with command_scope({}, json_errors=as_json):
        from mm1cli.commands import templates

        templates.show_list(sys.stdout, as_json=as_json)


@templates_app.command("show")
def show_template(name: o.TemplateName) -> None:
    """Print a template: redirect it to a file, and change it."""
    with command_scope({}):
        from mm1cli.commands import templates

        templates.show(name, sys.stdout)


@app.command()
def doctor(as_json: o.Json = False) -> None:
    """What mm1 runs on here: processor, GPU, sandbox, models, disk; what is slow, and why."""
    with command_scope({}, json_errors=as_json) as (settings, _):
        from mm1cli.commands import doctor as examining

        examining.run(settings, sys.stdout, as_json=as_json)


@app.command()
def completion(shell: o.Shell) -> None:
    """Print a script that completes commands, options and names in your shell."""
    with command_scope({}, reads_settings=False):
        from typer import completion as scripts

        if shell not in ("bash", "zsh", "fish"):
            raise UsageError(f"{shell}: no completion for it; there is bash, zsh and fish")
        made = scripts.get_completion_script  # type: ignore[attr-defined]
        typer.echo(made(prog_name="mm1", complete_var=_COMPLETE, shell=shell))


@app.command()
def man(context: typer.Context) -> None:
    """Print the manual page: mm1 man | man -l -"""
    with command_scope({}, reads_settings=False):
        from mm1cli.commands import man as page

        root = context.find_root()
        page.write(root.command, root, sys.stdout)


def run() -> None:
    """What `mm1cli.__main__` runs: usage errors in one line, too."""
    if _COMPLETE in os.environ:
        from typer import completion

        completion.get_completion_inspect_parameters()  # makes the shells known
    try:
        sys.exit(app(prog_name="mm1", standalone_mode=False))
    except typer.Abort:
        sys.exit(ExitCode.INTERRUPTED)
    except Exception as error:
        # A usage error of typer's parser; its class has moved between releases.
        if not hasattr(error, "format_message"):
            raise
        message = error.format_message()
        if type(error).__name__.startswith("NoArgsIsHelp"):  # the help, where nothing was asked
            sys.stderr.write(f"{message}\n")
        elif message:
            sink = make_sink("json" if "--json" in sys.argv else "text", False)
            told = getattr(error, "ctx", None)  # of the command that was being read
            name = "mm1" if told is None else told.command_path
            sink.error(f"{message.rstrip('.')}; see {name} --help", ExitCode.USAGE)
            sink.close()
        sys.exit(ExitCode.USAGE)


if __name__ == "__main__":  # python -m mm1cli.app; `mm1` itself comes by __main__.py
    run()
