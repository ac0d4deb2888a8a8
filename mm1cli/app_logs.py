"""The group `mm1 logs`: typer wiring only."""

import sys
from typing import Annotated

import typer

import mm1cli.options as o
from mm1cli.help import App
from mm1cli.session import command_scope

logs_app = App("The answers that mm1 has given, kept in a file of your own.", lists_alone=True)

Number = Annotated[int, typer.Argument(help="A number `mm1 logs` shows.")]
Words = Annotated[list[str], typer.Argument(help="Words of questions, answers or sources.")]
Most = Annotated[
    int,
    typer.Option(
        "--most",
        "-n",
        metavar="N",
        min=1,
        max=1_000_000,
        help="Show at most so many. [20]",
        show_default=False,
    ),
]


@logs_app.callback(invoke_without_command=True)
def logs(context: typer.Context) -> None:
    """The answers that mm1 has given, kept in a file of your own. Alone it lists the last ones."""
    if context.invoked_subcommand is None:
        show_list()


@logs_app.command("list")
def show_list(most: Most = 20, as_json: o.Json = False) -> None:
    """The last answers, the newest first."""
    with command_scope({}, json_errors=as_json):
        from mm1cli.commands import logs

        logs.show_list(sys.stdout, most=most, as_json=as_json)


@logs_app.command("show")
def show_answer(number: Number, as_json: o.Json = False) -> None:
    """One answer with its question, sources, model and seed."""
    with command_scope({}, json_errors=as_json):
        from mm1cli.commands import logs

        logs.show(number, sys.stdout, as_json=as_json)


@logs_app.command("search")
def search_answers(words: Words, most: Most = 20, as_json: o.Json = False) -> None:
    """Answers that have all these words."""
    with command_scope({}, json_errors=as_json):
        from mm1cli.commands import logs

        logs.search(" ".join(words), sys.stdout, most=most, as_json=as_json)


@logs_app.command("export")
def export_answers() -> None:
    """All answers as JSON, one a line."""
    with command_scope({}):
        from mm1cli.commands import logs

        logs.export(sys.stdout)
