"""Prompt texts as files, so that they can be read and changed without reading code."""

from functools import cache
from importlib.resources import files


@cache
def prompt(name: str) -> str:
    """The text of `<name>.txt` in this folder, without the newline at its end."""
    return (files(__name__) / f"{name}.txt").read_text(encoding="utf-8").removesuffix("\n")
