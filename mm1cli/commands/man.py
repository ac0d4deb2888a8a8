"""`mm1 man`: the manual page, in roff, of the texts that `--help` prints."""

import re
from collections.abc import Iterator
from datetime import date
from typing import Any, TextIO

from mm1cli.about import version
from mm1cli.errors import EXIT_CODES
from mm1cli.examples import EXAMPLES
from mm1cli.help import path_of, sections

_FILES = (
    ("./mm1.toml", "Settings of this folder."),
    ("$XDG_CONFIG_HOME/mm1/config.toml", "Your settings; mm1 config path prints where it is."),
    ("$XDG_CACHE_HOME/mm1", "Extracted text and contexts that are kept."),
    ("$XDG_DATA_HOME/mm1", "Models, and the log of answers."),
)
_ENVIRONMENT = (
    ("MM1_NAME", "Any setting of mm1 config show: MM1_MODEL, MM1_MAX_TOKENS."),
    ("MM1_DATA_DIR", "Where models and the log of answers lie."),
    ("MM1_DEBUG", "Show where an internal error came from."),
    ("NO_COLOR", "No colour and no links."),
)


def write(group: Any, context: Any, stdout: TextIO) -> None:  # noqa: ANN401 - typer's own classes
    """The page of `group`, the command line itself, and of all its commands."""
    stdout.write("".join(f"{line}\n" for line in _page(group, context)))


def _page(group: Any, context: Any) -> Iterator[str]:  # noqa: ANN401
    yield f'.TH MM1 1 "{date.today():%Y-%m-%d}" "mm1 {version()}" "mm1"'
    yield ".SH NAME"
    yield rf"mm1 \- {_text(_sentence(group.help))}"
    yield ".SH SYNOPSIS"
    yield ".B mm1"
    yield r"[\fIoptions\fR] \fIcommand\fR [\fIarguments\fR]"
    yield from _examples("")
    yield ".SH COMMANDS"
    for command, inner in _commands(group, context):
        yield from _command(command, inner)
    yield ".SH EXIT STATUS"
    for code, words in EXIT_CODES.items():
        yield from _item(str(int(code)), words)
    yield ".SH ENVIRONMENT"
    for name, words in _ENVIRONMENT:
        yield from _item(name, words)
    yield ".SH FILES"
    for name, words in _FILES:
        yield from _item(name, words)


def _commands(group: Any, context: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401
    """Every command of `group` that is no group itself, with a context of its own."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = type(context)(command, info_name=name, parent=context)
        if hasattr(command, "list_commands"):
            yield from _commands(command, inner)
        else:
            yield command, inner


def _command(command: Any, context: Any) -> Iterator[str]:  # noqa: ANN401
    path = path_of(context)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f".SS mm1 {_text(path)} {_text(usage)}"
    yield _text(" ".join((command.help or "").split()))
    for title, rows in sections(command, context):
        yield ".PP"
        yield rf"\fB{_text(title)}\fR"
        for name, words in rows:
            yield from _item(name, words)
    yield from _examples(path)


def _examples(path: str) -> Iterator[str]:
    if not (examples := EXAMPLES.get(path)):
        return
    yield ".PP"
    yield r"\fBExamples\fR"
    yield ".PP"
    yield ".nf"
    yield from (f"    {_text(line)}" for line in examples)
    yield ".fi"


def _item(name: str, words: str) -> Iterator[str]:
    yield ".TP"
    yield rf"\fB{_text(name)}\fR"
    yield _text(words)


def _sentence(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


def _text(text: str) -> str:
    """`text` as roff's own language has no hold of it."""
    text = text.replace("\\", "\\e").replace("-", r"\-")
    return re.sub(r"^(?=[.'])", r"\\&", text)
