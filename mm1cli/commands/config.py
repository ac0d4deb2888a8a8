"""`mm1 config trust`: what the mm1.toml of a folder may set."""

from pathlib import Path
from typing import TextIO

from mm1cli import trust
from mm1cli.errors import InputError
from mm1cli.output.text import safe_line
from mm1cli.settings import project_settings


def trust_folder(folder: Path, stdout: TextIO, *, is_taken_back: bool = False) -> None:
    """Shows what the folder's mm1.toml sets, and lets it. Raises InputError where there is none."""
    if is_taken_back:
        if not trust.distrust(folder):
            raise InputError(f"{folder}: was not trusted; nothing was changed")
        stdout.write(f"{safe_line(str(folder))} is not trusted any more\n")
        return
    set_there = project_settings(folder)  # one that says nonsense is refused first
    file = trust.trust(folder)
    for name, value in set_there.items():
        stdout.write(f"{name} = {safe_line(str(value))}\n")
    stdout.write(f"{safe_line(str(file))} is trusted until it changes\n")
