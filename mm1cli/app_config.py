"""The group `mm1 config`: typer wiring only."""

import sys

import mm1cli.options as o
from mm1cli.help import App
from mm1cli.session import command_scope

config_app = App("Show and change settings.")


@config_app.command("show")
def show_settings(as_json: o.Json = False) -> None:
    """Every setting, its value, and what set it."""
    with command_scope({}, json_errors=as_json) as (settings, _):
        from mm1cli.commands import config_values

        config_values.show(settings, sys.stdout, as_json=as_json)


@config_app.command("set")
def set_setting(name: o.SettingName, value: o.SettingValue = None) -> None:
    """Write a setting into your config file; without a value, take it out."""
    with command_scope({}):
        from mm1cli.commands import config_values

        config_values.set_value(name, value, sys.stdout)


@config_app.command("path")
def settings_path() -> None:
    """Where your config file is, or would be."""
    with command_scope({}, reads_settings=False):
        from mm1cli.commands import config_values

        config_values.path(sys.stdout)


@config_app.command("edit")
def edit_settings() -> None:
    """Open your config file in $EDITOR, and check what was saved."""
    with command_scope({}, reads_settings=False):
        from mm1cli.commands import config_values

        config_values.edit(sys.stdout)


@config_app.command("trust")
def trust_folder(folder: o.TrustedFolder, take_back: o.TakeBack = False) -> None:
    """Let the mm1.toml of a folder set everything, until it changes."""
    with command_scope({}) as (_, _sink):
        from mm1cli.commands import config

        config.trust_folder(folder, sys.stdout, is_taken_back=take_back)
