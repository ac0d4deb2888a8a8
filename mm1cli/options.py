"""The options of the commands, each once: what it is called, what its help says.

What stands in brackets at the end of a help text is the default.
"""

from pathlib import Path
from typing import Annotated

import typer

from mm1cli import completion

_READING = "Reading"
_MODEL = "Model"
_ANSWER = "Answer"
_OUTPUT = "Output"
_REVIEW = "Review"

Paths = Annotated[
    list[str] | None,
    typer.Argument(
        help="Files, folders, addresses of web pages and git repositories; - reads standard input.",
        show_default=False,
    ),
]
PathsAndQuestion = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATHS... [QUESTION]",
        help="Files, folders, addresses of web pages and git repositories; - reads standard input. "
        "A question may come last: it is no path, and has a space or a question mark.",
        show_default=False,
    ),
]
ChatPaths = Annotated[
    list[str] | None,
    typer.Argument(
        help="Files, folders and addresses, or one saved context; none for the model alone.",
        autocompletion=completion.contexts,
        show_default=False,
    ),
]
Ask = Annotated[
    list[str] | None,
    typer.Option("--ask", help="A question. Repeat for more.", rich_help_panel=_ANSWER),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        autocompletion=completion.models,
        help="Name or path of a model: `mm1 models find`. [auto]",
        rich_help_panel=_MODEL,
    ),
]
Server = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Ask a running llama-server, vLLM, SGLang or Ollama: docs/servers.md.",
        rich_help_panel=_MODEL,
    ),
]
ServerKind = Annotated[
    str | None,
    typer.Option(
        metavar="KIND", help="auto, llama, vllm, sglang or openai. [auto]", rich_help_panel=_MODEL
    ),
]
TokenizerOf = Annotated[
    str | None,
    typer.Option(
        "--tokenizer",
        metavar="NAME|DIR",
        help="The model here whose tokenizer is the server's. [found by its name]",
        rich_help_panel=_MODEL,
    ),
]
ApiKeyFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Holds the server's key. [MM1_API_KEY]", rich_help_panel=_MODEL
    ),
]
ServerUrl = Annotated[str, typer.Argument(metavar="URL", help="http://HOST:PORT.")]
ModelsDir = Annotated[
    str | None,
    typer.Option(
        metavar="DIR", help="A folder of models, beside those found.", rich_help_panel=_MODEL
    ),
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, or cuda:0,cuda:1. [cpu]", rich_help_panel=_MODEL)
]
Threads = Annotated[
    int | None, typer.Option(help="CPU threads. [all cores]", rich_help_panel=_MODEL)
]
ChunkTokens = Annotated[
    int | None, typer.Option(help="Tokens read in one step. [1024]", rich_help_panel=_MODEL)
]
Kv = Annotated[
    str | None,
    typer.Option(
        metavar="DTYPE",
        help="Numbers of the context in float32 or int8: about a quarter of the memory. [float32]",
        rich_help_panel=_MODEL,
    ),
]
Fast = Annotated[
    bool | None,
    typer.Option(
        "--fast",
        help="Multiply with a GGUF file's weights in eight bits: sooner, a little less exact.",
        rich_help_panel=_MODEL,
    ),
]
ContextTokens = Annotated[
    int | None,
    typer.Option(
        help="Most tokens at once: documents, question, answer. [what the model was made for]",
        rich_help_panel=_READING,
    ),
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
    typer.Option(
        metavar="GLOB", help="Leave these out. Repeat for more.", rich_help_panel=_READING
    ),
]
FilesFrom = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Read the paths listed in FILE, or -.", rich_help_panel=_READING
    ),
]
Null = Annotated[
    bool,
    typer.Option(
        "-0", help="Paths in --files-from end with NUL (find -print0).", rich_help_panel=_READING
    ),
]
Fit = Annotated[
    str | None,
    typer.Option(
        metavar="POLICY",
        help="If it does not fit: focus (retrieval), select (read all), fail, drop-largest, head. "
        "[focus]",
        rich_help_panel=_READING,
    ),
]
Focus = Annotated[
    str | None,
    typer.Option(
        metavar="off|auto|N",
        help="Passages that are repeated beside the question, and the most that are read where not "
        "all fits. [auto]",
        rich_help_panel=_READING,
    ),
]
Finder = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        autocompletion=completion.models,
        help="A model that reads all of what does not fit, to find the passages for each question.",
        rich_help_panel=_READING,
    ),
]
Search = Annotated[
    str | None,
    typer.Option(
        metavar="BY",
        help="Order passages by: bm25 (words), model (its own judgement), both. [both]",
        rich_help_panel=_READING,
    ),
]
ReadSeconds = Annotated[
    float | None,
    typer.Option(
        metavar="S",
        help="Time to read passages for a question, on a CPU. [20]",
        rich_help_panel=_READING,
    ),
]
Hidden = Annotated[
    bool, typer.Option("--hidden", help="Read hidden files, too.", rich_help_panel=_READING)
]
NoGitignore = Annotated[
    bool,
    typer.Option(
        "--no-gitignore", help="Read what .gitignore leaves out, too.", rich_help_panel=_READING
    ),
]
Offline = Annotated[
    bool | None,
    typer.Option("--offline", help="Fetch nothing: no page, no model.", rich_help_panel=_READING),
]
AllowSecrets = Annotated[
    bool | None,
    typer.Option(
        "--allow-secrets",
        help="Read files with keys or passwords in them, too.",
        rich_help_panel=_READING,
    ),
]
Ocr = Annotated[
    bool | None,
    typer.Option("--ocr", help="Read scans (tesseract, ocrmypdf).", rich_help_panel=_READING),
]
Convert = Annotated[
    bool | None,
    typer.Option(
        "--convert",
        help="Read .doc and .ppt, too, with LibreOffice, which is installed.",
        rich_help_panel=_READING,
    ),
]
NoCache = Annotated[
    bool | None,
    typer.Option("--no-cache", help="Keep nothing, use nothing kept.", rich_help_panel=_READING),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Show what would be read; ask nothing.", rich_help_panel=_READING
    ),
]
MaxTokens = Annotated[
    int | None, typer.Option(help="Longest answer, in tokens. [256]", rich_help_panel=_ANSWER)
]
Temperature = Annotated[
    float | None,
    typer.Option(
        help="Chance in choosing words; 0 takes the likeliest. [0]", rich_help_panel=_ANSWER
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(
        help="Draw from the likeliest words that hold this share. [0.95]", rich_help_panel=_ANSWER
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        help="With --temperature: the same number, the same answer. [0]", rich_help_panel=_ANSWER
    ),
]
Template = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        autocompletion=completion.templates,
        help="What to ask, as a file: see mm1 templates list.",
        rich_help_panel=_ANSWER,
    ),
]
TemplateName = Annotated[
    str,
    typer.Argument(
        help="A name `mm1 templates list` shows, or a file.", autocompletion=completion.templates
    ),
]
Schema = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|FIELDS",
        help="Answer in JSON: a JSON Schema, or `name, year int, tags [str]`.",
        rich_help_panel=_ANSWER,
    ),
]
Think = Annotated[
    str | None,
    typer.Option(
        metavar="HOW",
        help="A model's thinking: hide, show or only. [hide]",
        rich_help_panel=_ANSWER,
    ),
]
MaxThinking = Annotated[
    int | None,
    typer.Option(
        help="Longest thinking, in tokens, before the answer. [4096]", rich_help_panel=_ANSWER
    ),
]
AlwaysAnswer = Annotated[
    bool | None,
    typer.Option(
        "--always-answer", help="Answer even if nothing was found.", rich_help_panel=_ANSWER
    ),
]
Write = Annotated[
    bool | None,
    typer.Option(
        "--write", help="The model's own sentence first, evidence below.", rich_help_panel=_ANSWER
    ),
]
StrictCitations = Annotated[
    bool | None,
    typer.Option(
        "--strict-citations",
        help="Exit 6 if the answer says what no document says.",
        rich_help_panel=_ANSWER,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object.", rich_help_panel=_OUTPUT)
]
OutputFormat = Annotated[
    str | None, typer.Option("--format", help="text, json or jsonl.", rich_help_panel=_OUTPUT)
]
Quiet = Annotated[
    bool | None,
    typer.Option("--quiet", "-q", help="Print no notes and no progress.", rich_help_panel=_OUTPUT),
]
AnswerOnly = Annotated[
    bool | None,
    typer.Option(
        "--answer-only",
        help="The answer alone on stdout, its sources on stderr.",
        rich_help_panel=_OUTPUT,
    ),
]
Tool = Annotated[
    list[str] | None,
    typer.Option(
        "--tool",
        metavar="NAME",
        help="What the model may call: calc, search, open, count, or none. Repeat. [none; in chat "
        "all]",
        rich_help_panel=_ANSWER,
    ),
]
ToolApprove = Annotated[
    bool,
    typer.Option("--tool-approve", help="Ask before each call.", rich_help_panel=_ANSWER),
]
MaxToolCalls = Annotated[
    int | None,
    typer.Option(metavar="N", help="Calls for one question. [8]", rich_help_panel=_ANSWER),
]
McpFile = Annotated[
    Path | None,
    typer.Option(
        "--mcp",
        metavar="FILE",
        help="MCP servers, as JSON; --tool NAME.TOOL allows a tool of theirs.",
        rich_help_panel=_ANSWER,
    ),
]
NoLog = Annotated[
    bool | None,
    typer.Option("--no-log", help="Keep the answer out of mm1 logs.", rich_help_panel=_OUTPUT),
]
OutputFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write the answers to a file, too: .md, .docx, .html, .txt, .json, .jsonl or .csv. "
        "Repeat for more.",
        rich_help_panel=_OUTPUT,
    ),
]
ReviewOutput = Annotated[
    list[Path] | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write the review to a file, too: .md, .html, .txt, .json, .jsonl or .sarif. "
        "Repeat for more.",
        rich_help_panel=_OUTPUT,
    ),
]
ReportFile = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="As -o FILE.html.", rich_help_panel=_OUTPUT),
]
ModelName = Annotated[
    str, typer.Argument(help="Name or path of a model.", autocompletion=completion.models)
]
UsedName = Annotated[
    str, typer.Argument(help="Name or path of a model, or auto.", autocompletion=completion.models)
]
ModelNames = Annotated[
    list[str],
    typer.Argument(help="Names, as `mm1 models list` has them.", autocompletion=completion.models),
]
PulledName = Annotated[
    str,
    typer.Argument(help="A name of `mm1 models catalogue`, or ORG/NAME[@REV][:QUANT] of the hub."),
]
FilePattern = Annotated[
    str | None,
    typer.Option(
        "--file", metavar="PATTERN", help="Fetch of a repository only what matches: '*q4_k_m*'."
    ),
]
Chunks = Annotated[
    list[int] | None, typer.Option("--chunk", help="Prefill chunk to try. Repeat for more.")
]
NewModel = Annotated[Path, typer.Option("--output", "-o", help="Folder to make: m1-int4.")]
Form = Annotated[str, typer.Option("--to", metavar="FORM", help="int8 or int4.")]
GgufFile = Annotated[
    str,
    typer.Argument(
        metavar="FILE|NAME", help="A GGUF file, of a split one any for all; or its model's name."
    ),
]
ImportForm = Annotated[
    str | None,
    typer.Option("--to", metavar="FORM", help="int8, int4 or float32. [the nearest to the file's]"),
]
Group = Annotated[
    int | None, typer.Option(help="int4: weights that share a scale; 32, 64 or 128. [64]")
]
Check = Annotated[
    bool | None,
    typer.Option(
        "--check/--no-check", help="Measure the change of logprobs. [if it fits into memory]"
    ),
]
CheckText = Annotated[
    Path | None, typer.Option("--text", metavar="FILE", help="Measure on this. [a text of mm1's]")
]
MaxCache = Annotated[
    float | None,
    typer.Option(
        metavar="GB",
        help="Room for what is kept for the next question; the oldest goes first. [20]",
        rich_help_panel=_READING,
    ),
]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="Folder to save the context in: papers.mm1ctx.")
]
ContextPath = Annotated[
    Path,
    typer.Argument(
        help="A folder made by `mm1 context build`.", autocompletion=completion.contexts
    ),
]
Questions = Annotated[
    list[str] | None,
    typer.Argument(help="Questions; - reads one a line from standard input.", show_default=False),
]
ContextName = Annotated[
    str,
    typer.Argument(
        help="A folder, or a name `mm1 context list` shows.", autocompletion=completion.contexts
    ),
]
ContextNames = Annotated[
    list[str],
    typer.Argument(help="Folders, or names as listed.", autocompletion=completion.contexts),
]
ExportedContext = Annotated[Path, typer.Argument(help="A folder of `mm1 context export`.")]
NewFolder = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="A folder that is made.")
]
ClearText = Annotated[bool, typer.Option("--text", help="Extracted text, and scores of tokens.")]
ClearContexts = Annotated[bool, typer.Option("--contexts", help="Contexts kept by analyze.")]
ClearModels = Annotated[bool, typer.Option("--models", help="Models that mm1 fetched.")]
ClearAll = Annotated[bool, typer.Option("--all", help="All of it.")]
OlderThan = Annotated[
    str | None, typer.Option(metavar="AGE", help="Only what was not used for so long, as 30d.")
]
TrustedFolder = Annotated[Path, typer.Argument(help="A folder with a mm1.toml.")]
TakeBack = Annotated[bool, typer.Option("--remove", help="Trust it no more.")]
ReviewPaths = Annotated[
    list[str] | None,
    typer.Argument(
        help="Files and folders, the current one if none; - reads a diff. With --diff, a name "
        "that is no path and comes first is BASE.",
        show_default=False,
    ),
]


def _refuse_focus(value: str | None) -> None:
    if value is not None:
        raise typer.BadParameter("for a review this option is --category")


Diff = Annotated[
    bool,
    typer.Option(
        "--diff",
        help="Review what changed since [BASE] was left, by git. BASE goes before the paths. "
        "[HEAD]",
        rich_help_panel=_REVIEW,
    ),
]
Category = Annotated[
    list[str] | None,
    typer.Option(
        "--category",
        help="security, bugs, api, tests, performance or docs. Repeat. [all]",
        rich_help_panel=_REVIEW,
    ),
]
ReviewFocus = Annotated[str | None, typer.Option("--focus", hidden=True, callback=_refuse_focus)]
Severity = Annotated[
    str | None,
    typer.Option(
        help="Show from here up: low, medium, high or critical. [low]", rich_help_panel=_REVIEW
    ),
]
MaxFindings = Annotated[
    int | None, typer.Option(help="Show at most so many, the worst.", rich_help_panel=_REVIEW)
]
OnlyPaths = Annotated[
    list[str] | None,
    typer.Option(
        "--paths",
        metavar="GLOB",
        help="Review only these; the rest is context. Repeat.",
        rich_help_panel=_REVIEW,
    ),
]
Surprise = Annotated[
    bool,
    typer.Option(
        "--surprise",
        help="Rank lines by how improbable they are; findings are steered by it.",
        rich_help_panel=_REVIEW,
    ),
]
Findings = Annotated[
    bool,
    typer.Option(
        "--findings", help="Generate findings with a small model, too.", rich_help_panel=_REVIEW
    ),
]
FailOn = Annotated[
    str | None,
    typer.Option(
        metavar="SEVERITY",
        help="Exit 1 if there are findings of it or above.",
        rich_help_panel=_REVIEW,
    ),
]
Baseline = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Findings to hide.", rich_help_panel=_REVIEW),
]
UpdateBaseline = Annotated[
    bool,
    typer.Option(
        "--update-baseline", help="Write this run's findings to it.", rich_help_panel=_REVIEW
    ),
]
ReviewFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="text, json, jsonl, sarif, github or markdown.",
        rich_help_panel=_OUTPUT,
    ),
]
ServedContexts = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Saved contexts to list as models: context:NAME.",
        autocompletion=completion.contexts,
        show_default=False,
    ),
]
Host = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS",
        help="Where to listen; beyond this machine only with --key-file.",
        show_default=True,
    ),
]
Port = Annotated[int, typer.Option(metavar="N", help="Port to listen on.", show_default=True)]
KeyFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A file with the key that clients must show."),
]
McpPort = Annotated[
    int | None,
    typer.Option("--port", metavar="N", help="Streamable HTTP on 127.0.0.1 instead of stdio."),
]
SettingName = Annotated[
    str,
    typer.Argument(help="A name `mm1 config show` lists.", autocompletion=completion.settings),
]
SettingValue = Annotated[str | None, typer.Argument(help="What to set it to.", show_default=False)]
Shell = Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]
MapOutput = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="FILE", help="Lines of JSON; the same file goes on."),
]
MapFiles = Annotated[list[Path], typer.Argument(help="Files of `mm1 map`, one for each shard.")]
MergedOutput = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write all documents' lines to it."),
]
ShardOf = Annotated[
    str,
    typer.Option(
        "--shard", metavar="I/N", help="Only part I of N, by names. [1/1]", show_default=False
    ),
]
Jobs = Annotated[
    int,
    typer.Option(
        metavar="N", help="Documents a server is asked about at once. [1]", show_default=False
    ),
]
GroupBy = Annotated[
    str,
    typer.Option(
        metavar="WHAT",
        help="A context for each document, or folder. [document]",
        show_default=False,
    ),
]
StrictMerge = Annotated[
    bool, typer.Option("--strict", help="Exit 5 if a shard or a document is missing.")
]
TextFile = Annotated[
    Path | None,
    typer.Option("--text", metavar="FILE", help="Write the text that a model would get."),
]
