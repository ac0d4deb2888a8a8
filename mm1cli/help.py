"""What `-h` prints: options in groups, examples below, no name cut off on a narrow screen.

The same texts make the man page (`mm1cli/commands/man.py`).
"""

import re
import shutil
from collections.abc import Callable, Sequence
from itertools import groupby
from textwrap import wrap
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from mm1cli.examples import EXAMPLES

_WIDEST, _NARROWEST = 100, 20
_NARROW = 60  # below it a text stands under what it explains
_OPTIONS = "Options"
_TYPES = {"int": "N", "float": "X", "path": "PATH"}


def sections(command: Any, context: Any) -> list[tuple[str, list[tuple[str, str]]]]:  # noqa: ANN401
    """(title, [(how it is written, what it does)]) of the arguments and options of `command`."""
    rows = []
    for parameter in command.get_params(context):
        if (record := parameter.get_help_record(context)) is None:
            continue
        is_argument = parameter.param_type_name == "argument"
        title = getattr(parameter, "rich_help_panel", None) or _OPTIONS
        name, text = record
        rows.append(("Arguments" if is_argument else title, (_named(name, is_argument), text)))
    order = {title: at for at, (title, _) in reversed(list(enumerate(rows)))}
    rows.sort(key=lambda row: (order[row[0]], row[0]))
    return [
        (title, [row for _, row in found]) for title, found in groupby(rows, lambda row: row[0])
    ]


def _named(name: str, is_argument: bool) -> str:
    """`name` with the type of its value as people say it."""
    if is_argument:
        return re.sub(r" *<[^>]*>$", "", name)
    return re.sub(r"<(?:list\[)?(\w+)\]?>$", lambda match: _TYPES.get(match[1], "TEXT"), name)


def path_of(context: Any) -> str:  # noqa: ANN401
    """The command without its program: "models list"; "" for mm1 itself."""
    names = []
    while context.parent is not None:
        names.append(context.info_name)
        context = context.parent
    return " ".join(reversed(names))


def _columns() -> int:
    return max(min(shutil.get_terminal_size().columns, _WIDEST), _NARROWEST)


def _write_rows(rows: Sequence[tuple[str, str]], formatter: Any) -> None:  # noqa: ANN401
    if formatter.width >= _NARROW:
        formatter.write_dl(rows)
        return
    indent = " " * formatter.current_indent
    for name, text in rows:
        formatter.write(f"{indent}{name}\n")
        for line in wrap(text, max(formatter.width - len(indent) - 4, 10)):
            formatter.write(f"{indent}    {line}\n")


class _Plain:
    """The parts of help that a command and a group of commands share."""

    def get_help(self, ctx: Any) -> str:  # noqa: ANN401
        formatter = ctx.make_formatter()
        formatter.width = _columns() - 1
        self.format_help(ctx, formatter)  # type: ignore[attr-defined]
        return str(formatter.getvalue()).rstrip("\n")

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        for title, rows in sections(self, ctx):
            with formatter.section(title):
                _write_rows(rows, formatter)
        if isinstance(self, TyperGroup):
            self.format_commands(ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        if examples := EXAMPLES.get(path_of(ctx)):
            with formatter.section("Examples"):
                for line in examples:
                    formatter.write(f"  {line}\n")


class Command(_Plain, TyperCommand):
    pass


class Group(_Plain, TyperGroup):
    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        shown = [(name, one) for name, one in commands if one is not None and not one.hidden]
        with formatter.section("Commands"):
            _write_rows([(name, one.get_short_help_str(200)) for name, one in shown], formatter)


class App(typer.Typer):
    """A typer app whose commands have such help."""

    def __init__(self, help: str, *, lists_alone: bool = False) -> None:
        """`lists_alone`: the group's own name is a command, too."""
        super().__init__(
            help=help,
            cls=Group,
            no_args_is_help=not lists_alone,
            pretty_exceptions_enable=False,
            add_completion=False,
            rich_markup_mode=None,
            context_settings={"help_option_names": ["-h", "--help"]},
        )

    def command(self, name: str | None = None, **more: Any) -> Callable[[Any], Any]:  # noqa: ANN401
        settings = {"help_option_names": ["-h", "--help"]}
        return super().command(name, cls=Command, context_settings=settings, **more)
