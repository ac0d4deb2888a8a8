"""`mm1 templates`: those there are."""

import json
from typing import TextIO

from mm1cli.tables import templates


def show_list(out: TextIO, *, as_json: bool) -> None:
    found = templates.listed()
    if as_json:
        names = ("name", "description", "kind", "origin")
        json.dump([{name: getattr(one, name) for name in names} for one in found], out)
        out.write("\n")
        return
    width = max(len(one.name) for one in found)
    for one in found:
        origin = "" if one.origin == templates.BUILT_IN else f" ({one.origin})"
        out.write(f"{one.name:{width}}  {one.description}{origin}\n")
    out.write(f"\nyour own: {templates.folder()}/NAME.md, or --template ./NAME.md\n")


def show(name: str, out: TextIO) -> None:
    """The file as it is, so that it can be redirected and changed."""
    out.write(templates.load(name).content)
