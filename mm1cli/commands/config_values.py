"""`mm1 config show`, `set`, `path` and `edit`: what is set, where, and by whom."""

import json
import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import TextIO

from engine import durable
from mm1cli.errors import UsageError
from mm1cli.output.text import Channel, cell_width, elide_middle, pad
from mm1cli.settings import NAMES, Settings, checked, load, parsed, user_file

_HEAD = "# Settings of mm1; `mm1 config show` lists them all.\n"


def show(settings: Settings, stdout: TextIO, *, as_json: bool) -> None:
    """Every setting, its value and where that came from."""
    rows = [(name, getattr(settings, name), settings.origin(name)) for name in NAMES]
    if as_json:
        told = {name: {"value": value, "origin": origin} for name, value, origin in rows}
        stdout.write(json.dumps({"settings": told}) + "\n")
        return
    channel = Channel.from_environment(stdout, os.environ)
    width = max(len(name) for name in NAMES)
    for name, value, origin in rows:
        shown = _toml(value) if value is not None else "(not set)"
        line = f"{name:<{width}}  {pad(shown, 12)}  {origin}".rstrip()
        if channel.is_terminal and cell_width(line) > channel.columns:
            room = max(channel.columns - 2, 1)
            line = f"{name} = {shown}\n  {elide_middle(origin, room)}"
        channel.write(f"{line}\n")


def set_value(name: str, text: str | None, stdout: TextIO) -> None:
    """Writes one setting into the user's file, or takes it out; all else of it stays as it is.

    Raises UsageError for a name or a value that is none, and for a file that cannot be changed so.
    """
    file = user_file()
    value = None if text is None else checked(name, parsed(name, text), "mm1 config set")
    if value is None and name not in NAMES:
        checked(name, "", "mm1 config set")  # says which there are
    before = file.read_text(encoding="utf-8") if file.exists() else _HEAD
    after = _changed(before, name, None if value is None else f"{name} = {_toml(value)}\n")
    try:
        tomllib.loads(after)
    except tomllib.TOMLDecodeError:
        raise UsageError(f"{file}: is not valid TOML; `mm1 config edit` opens it") from None
    file.parent.mkdir(parents=True, exist_ok=True)
    durable.write(file, lambda part: part.write_text(after, encoding="utf-8"))
    told = f"{name} is not set any more" if value is None else f"{name} = {_toml(value)}"
    stdout.write(f"{told}  ({file})\n")
    now = load({}, os.environ, Path.cwd())
    if now.origin(name) not in {str(file), "default"}:
        stdout.write(f"note: here {now.origin(name)} says {_toml(getattr(now, name))}\n")


def _changed(text: str, name: str, line: str | None) -> str:
    """`text` with the line of `name` replaced, put at the end, or left out."""
    pattern = re.compile(rf"^[ \t]*{re.escape(name)}[ \t]*=[^\n]*\n?", re.MULTILINE)
    if pattern.search(text):
        return pattern.sub(lambda _: line or "", text, count=1)
    ended = text if not text or text.endswith("\n") else f"{text}\n"
    return ended + (line or "")


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


def path(stdout: TextIO) -> None:
    stdout.write(f"{user_file()}\n")


def edit(stdout: TextIO) -> None:
    """Opens the user's file in $VISUAL or $EDITOR, and says at once if what was saved is wrong."""
    file = user_file()
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_HEAD, encoding="utf-8")
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor:
        raise UsageError(f"neither VISUAL nor EDITOR is set; open {file} yourself")
    try:
        code = subprocess.run([*shlex.split(editor), str(file)], check=False).returncode
    except OSError as error:
        raise UsageError(f"{editor}: {error.strerror}; set EDITOR to your editor") from None
    if code:
        raise UsageError(f"{editor} ended with {code}; nothing was checked")
    load({}, {}, file.parent)
    stdout.write(f"{file} is in order\n")
